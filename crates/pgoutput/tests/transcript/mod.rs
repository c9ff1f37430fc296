//! A stream as lines of text, without what differs between two captures of the same statements:
//! LSNs, times, transaction ids and the oids of the database's own objects.
#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, fmt::Write};

use pgoutput::{LogicalMessage, Message, RelationMessage, Truncate, Tuple, Value};

use crate::captured::Captured;

/// Oids from here on were given to objects that users made (`FirstNormalObjectId`).
const FIRST_USER_OID: u32 = 16384;

#[derive(Default)]
struct Transcript {
    text: String,
    relations: HashMap<u32, String>,
    types: HashMap<u32, String>,
}

pub fn transcript(stream: &[Captured]) -> String {
    let mut transcript = Transcript::default();
    for captured in stream {
        transcript.add(&captured.message());
    }
    transcript.text
}

impl Transcript {
    fn line(&mut self, line: impl AsRef<str>) {
        writeln!(self.text, "{}", line.as_ref()).unwrap();
    }

    fn add(&mut self, message: &Message<'_>) {
        match message {
            Message::Begin(_) => self.line("begin"),
            Message::Commit(commit) => self.line(format!("commit flags={}", commit.flags)),
            Message::Origin(origin) => {
                self.line(format!(
                    "  origin {:?} at {}",
                    origin.name, origin.commit_lsn
                ));
            }
            Message::Relation(relation) => self.relation(relation),
            Message::Type(message) => {
                let name = format!("{:?}.{:?}", message.namespace, message.name);
                self.line(format!("  type {name}"));
                self.types.insert(message.oid, name);
            }
            Message::Insert(insert) => {
                self.line(format!("  insert {}", self.relations[&insert.relation_oid]));
                self.tuple(&insert.tuple);
            }
            Message::Update { relation_oid } => {
                self.line(format!("  update {}", self.relations[relation_oid]));
            }
            Message::Delete { relation_oid } => {
                self.line(format!("  delete {}", self.relations[relation_oid]));
            }
            Message::Truncate(truncate) => self.truncate(truncate),
            Message::Logical(message) => self.logical(message),
        }
    }

    fn relation(&mut self, relation: &RelationMessage<'_>) {
        let name = format!("{:?}.{:?}", relation.namespace, relation.name);
        let identity = char::from(relation.replica_identity);
        self.line(format!("  relation {name} replica_identity={identity}"));
        for column in relation.columns {
            let oid = column.type_oid;
            let type_name = match self.types.get(&oid) {
                Some(name) => name.clone(),
                None if oid < FIRST_USER_OID => oid.to_string(),
                None => panic!("type {oid} was not described"),
            };
            let (flags, name, modifier) = (column.flags, column.name, column.type_modifier);
            self.line(format!(
                "    {name:?} type={type_name} modifier={modifier} flags={flags}"
            ));
        }
        self.relations.insert(relation.oid, name);
    }

    fn tuple(&mut self, tuple: &Tuple<'_>) {
        for value in tuple.columns() {
            self.line(match value {
                Value::Null => "    null".to_owned(),
                Value::UnchangedToast => "    unchanged".to_owned(),
                Value::Text(text) => format!("    text {}", text_form(text)),
                Value::Binary(bytes) => format!("    binary {}", bytes.escape_ascii()),
            });
        }
    }

    fn truncate(&mut self, truncate: &Truncate<'_>) {
        let names: Vec<String> = truncate
            .relation_oids
            .map(|oid| self.relations[&oid].clone())
            .collect();
        self.line(format!(
            "  truncate {} {:?}",
            names.join(", "),
            truncate.options
        ));
    }

    fn logical(&mut self, message: &LogicalMessage<'_>) {
        let indent = if message.transactional { "  " } else { "" };
        let content = message.content.escape_ascii();
        self.line(format!(
            "{indent}message {:?} \"{content}\"",
            message.prefix
        ));
    }
}

fn text_form(text: &[u8]) -> String {
    format!("{:?}", str::from_utf8(text).unwrap())
}
