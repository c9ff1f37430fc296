//! The captured streams under `tests/golden`.
#![allow(clippy::unwrap_used, dead_code)]

use pgoutput::{CommitLsn, Lsn, Message, Relation, parse};

/// Streams in which values arrive as text, one per server version.
pub const TEXT: [&str; 2] = [
    include_str!("../golden/pg15-text.hex"),
    include_str!("../golden/pg18-text.hex"),
];

/// The same transactions with option `binary`.
pub const BINARY: [&str; 2] = [
    include_str!("../golden/pg15-binary.hex"),
    include_str!("../golden/pg18-binary.hex"),
];

/// One message as the server wrote it.
pub struct Captured {
    /// Where the decoder was in the WAL.
    pub lsn: Lsn,
    pub bytes: Vec<u8>,
}

impl Captured {
    pub fn message(&self) -> Message<'_> {
        parse(&self.bytes).unwrap()
    }
}

/// The messages of one fixture: lines of LSN and hexadecimal bytes.
pub fn stream(fixture: &str) -> Vec<Captured> {
    let captured: Vec<Captured> = fixture.lines().map(line).collect();
    assert!(captured.len() > 50, "fixture is not complete");
    captured
}

fn line(line: &str) -> Captured {
    let (lsn, hex) = line.split_once(' ').unwrap();
    let digits: Vec<u8> = hex
        .chars()
        .map(|digit| digit.to_digit(16).unwrap().try_into().unwrap())
        .collect();
    let bytes = digits
        .as_chunks()
        .0
        .iter()
        .map(|[high, low]| high << 4 | low)
        .collect();
    Captured {
        lsn: lsn.parse().unwrap(),
        bytes,
    }
}

pub fn all_streams() -> impl Iterator<Item = Vec<Captured>> {
    TEXT.into_iter().chain(BINARY).map(stream)
}

/// An insert of the stream, its values copied.
pub struct Row {
    pub lsn: Lsn,
    /// The transaction around it.
    pub commit_lsn: CommitLsn,
    /// The table as it was described last.
    pub relation: Relation,
    /// `None` for NULL.
    pub values: Vec<Option<Vec<u8>>>,
}

impl Row {
    pub fn text(&self, column: &str) -> Option<String> {
        let index = self.relation.column_index(column).unwrap();
        let bytes = self.values[index].clone()?;
        Some(String::from_utf8(bytes).unwrap())
    }
}

/// The rows inserted into tables of that name, in order.
pub fn rows(stream: &[Captured], table: &str) -> Vec<Row> {
    let mut relations: Vec<Relation> = Vec::new();
    let mut transaction = None;
    let mut rows = Vec::new();
    for captured in stream {
        match captured.message() {
            Message::Begin(begin) => transaction = Some(begin.final_lsn),
            Message::Relation(message) => relations.push(message.into()),
            Message::Insert(insert) => {
                let described = relations
                    .iter()
                    .rfind(|known| known.oid == insert.relation_oid);
                let relation = described.unwrap().clone();
                let values = insert.tuple.columns().map(copied).collect();
                let commit_lsn = transaction.unwrap();
                rows.push(Row {
                    lsn: captured.lsn,
                    commit_lsn,
                    relation,
                    values,
                });
            }
            _ => {}
        }
    }
    rows.retain(|row| row.relation.name == table);
    rows
}

fn copied(value: pgoutput::Value<'_>) -> Option<Vec<u8>> {
    match value {
        pgoutput::Value::Null => None,
        pgoutput::Value::UnchangedToast => panic!("an insert is complete"),
        pgoutput::Value::Text(bytes) | pgoutput::Value::Binary(bytes) => Some(bytes.to_vec()),
    }
}
