//! Resolves the names of a [`TableSpec`] against the relation that the stream describes.

use std::fmt;

use pgoutput::Relation;

use crate::{
    column::{Field, Kind},
    policy::{TopicPolicy, TopicRefusal, is_topic_byte},
    record::RESERVED_HEADERS,
    spec::{Format, HeaderColumn, OptionalColumn, TableSpec},
    topic::TopicPart,
};

/// A mapping that does not fit its relation. The table is named as the stream names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A mapped column does not exist.
    #[error(
        "column {column:?} is mapped but the relation {table} has only: {existing}; set {role} to \
         one of these, or add the column to the table (and to the publication's column list)"
    )]
    MissingColumn {
        /// Schema and table.
        table: String,
        /// The missing column.
        column: String,
        /// What it was mapped as.
        role: Role,
        /// The columns that the relation has, separated by commas.
        existing: String,
    },
    /// A column is of a type that can't play its role.
    #[error(
        "column {column:?} of {table} is of type {found}, but {role} needs {expected}; set it to \
         another column or change the column's type"
    )]
    UnsuitableType {
        /// Schema and table.
        table: String,
        /// The column.
        column: String,
        /// What it was mapped as.
        role: Role,
        /// Its type.
        found: String,
        /// The types that would do.
        expected: &'static str,
    },
    /// A header column claims a name that every record already has.
    #[error(
        "column {column:?} of {table} can't become header {header:?}, which every record has; \
             choose another name"
    )]
    ReservedHeader {
        /// Schema and table.
        table: String,
        /// The column.
        column: String,
        /// The header.
        header: String,
    },
    /// The payload would become part of the topic.
    #[error("column {column:?} of {table} is the payload, which can't be part of the topic")]
    PayloadInTopic {
        /// Schema and table.
        table: String,
        /// The payload's column.
        column: String,
    },
    /// No event of the table could ever be routed.
    #[error("events of {table} can't go to topic {topic:?}: {refusal}")]
    TopicRefused {
        /// Schema and table.
        table: String,
        /// The template, or the topic if it is always the same.
        topic: String,
        /// Why.
        refusal: TopicRefusal,
    },
}

/// What a column is mapped as. Its text is the setting that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Event id.
    Id,
    /// Event type.
    EventType,
    /// Transfer id.
    TransferId,
    /// Payload.
    Payload,
    /// The row's own headers.
    Headers,
    /// Event time.
    OccurredAt,
    /// Insertion number.
    Seq,
    /// Record key.
    Key,
    /// A header.
    Header,
    /// A part of the topic.
    Topic,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id => "columns.id",
            Self::EventType => "columns.event_type",
            Self::TransferId => "columns.transfer_id",
            Self::Payload => "columns.payload",
            Self::Headers => "columns.headers",
            Self::OccurredAt => "columns.occurred_at",
            Self::Seq => "columns.seq",
            Self::Key => "key",
            Self::Header => "headers",
            Self::Topic => "topic",
        })
    }
}

/// A [`TableSpec`] with its columns found.
#[derive(Debug)]
pub(crate) struct Columns {
    pub id: Field,
    pub event_type: Field,
    pub transfer_id: Option<Field>,
    pub payload: Field,
    pub headers: Option<Field>,
    pub occurred_at: Option<Field>,
    pub seq: Option<Field>,
    pub key: Option<Field>,
    pub header_columns: Vec<(Box<str>, Field)>,
    pub topic: Vec<TopicSegment>,
}

/// A part of the topic of an event.
#[derive(Debug)]
pub(crate) enum TopicSegment {
    Literal(String),
    EventType,
    EventDomain,
    Column(Field),
}

/// Finds the columns of `spec` in `relation`.
pub(crate) fn columns(
    spec: &TableSpec,
    policy: &TopicPolicy,
    relation: &Relation,
) -> Result<Columns, CompileError> {
    let resolver = Resolver { spec, relation };
    let map = &spec.columns;
    let key = spec
        .key
        .as_deref()
        .map(|name| resolver.required(Role::Key, name));
    let header_columns: Result<_, _> = spec
        .headers
        .iter()
        .map(|column| resolver.header(column))
        .collect();
    Ok(Columns {
        id: resolver.required(Role::Id, &map.id)?,
        event_type: resolver.required(Role::EventType, &map.event_type)?,
        transfer_id: resolver.optional(Role::TransferId, &map.transfer_id)?,
        payload: resolver.required(Role::Payload, &map.payload)?,
        headers: resolver.optional(Role::Headers, &map.headers)?,
        occurred_at: resolver.optional(Role::OccurredAt, &map.occurred_at)?,
        seq: resolver.optional(Role::Seq, &map.seq)?,
        key: key.transpose()?,
        header_columns: header_columns?,
        topic: resolver.topic(policy)?,
    })
}

struct Resolver<'s> {
    spec: &'s TableSpec,
    relation: &'s Relation,
}

impl Resolver<'_> {
    fn table(&self) -> String {
        format!("{}.{}", self.relation.namespace, self.relation.name)
    }

    fn required(&self, role: Role, name: &str) -> Result<Field, CompileError> {
        match self.find(role, name)? {
            Some(field) => Ok(field),
            None => Err(self.missing(role, name)),
        }
    }

    fn optional(&self, role: Role, column: &OptionalColumn) -> Result<Option<Field>, CompileError> {
        match column {
            OptionalColumn::Unmapped => Ok(None),
            OptionalColumn::IfPresent(name) => self.find(role, name),
            OptionalColumn::Mapped(name) => self.required(role, name).map(Some),
        }
    }

    fn header(&self, header: &HeaderColumn) -> Result<(Box<str>, Field), CompileError> {
        let name = header.header.as_str();
        if RESERVED_HEADERS.contains(&name) {
            return Err(CompileError::ReservedHeader {
                table: self.table(),
                column: header.column.clone(),
                header: name.into(),
            });
        }
        Ok((name.into(), self.required(Role::Header, &header.column)?))
    }

    fn find(&self, role: Role, name: &str) -> Result<Option<Field>, CompileError> {
        let found = self
            .relation
            .columns
            .iter()
            .enumerate()
            .find(|(_, column)| column.name == name);
        let Some((index, column)) = found else {
            return Ok(None);
        };
        let field = Field::new(index, column);
        let expected = suitable(role, self.spec.format);
        if expected.kinds.contains(&field.kind()) {
            return Ok(Some(field));
        }
        Err(CompileError::UnsuitableType {
            table: self.table(),
            column: name.into(),
            role,
            found: type_name(column.type_oid),
            expected: expected.text,
        })
    }

    fn missing(&self, role: Role, name: &str) -> CompileError {
        let names: Vec<_> = self
            .relation
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        CompileError::MissingColumn {
            table: self.table(),
            column: name.into(),
            role,
            existing: names.join(", "),
        }
    }

    fn topic(&self, policy: &TopicPolicy) -> Result<Vec<TopicSegment>, CompileError> {
        let parts = self.spec.topic.parts().iter();
        let segments = parts
            .map(|part| self.segment(part))
            .collect::<Result<Vec<_>, _>>()?;
        let literals = segments.iter().filter_map(|segment| match segment {
            TopicSegment::Literal(text) => Some(text.as_str()),
            TopicSegment::EventType | TopicSegment::EventDomain | TopicSegment::Column(_) => None,
        });
        if literals
            .clone()
            .any(|text| !text.bytes().all(is_topic_byte))
        {
            return Err(self.topic_refused(self.spec.topic.to_string(), TopicRefusal::Invalid));
        }
        if literals.clone().count() == segments.len() {
            let topic = literals.collect::<String>();
            policy
                .check(&topic)
                .map_err(|refusal| self.topic_refused(topic, refusal))?;
        }
        Ok(segments)
    }

    fn segment(&self, part: &TopicPart) -> Result<TopicSegment, CompileError> {
        Ok(match part {
            TopicPart::Literal(text) => TopicSegment::Literal(text.clone()),
            TopicPart::Service => TopicSegment::Literal(self.spec.service.clone()),
            TopicPart::EventType => TopicSegment::EventType,
            TopicPart::EventDomain => TopicSegment::EventDomain,
            TopicPart::Column(name) if *name == self.spec.columns.payload => {
                return Err(CompileError::PayloadInTopic {
                    table: self.table(),
                    column: name.clone(),
                });
            }
            TopicPart::Column(name) => TopicSegment::Column(self.required(Role::Topic, name)?),
        })
    }

    fn topic_refused(&self, topic: String, refusal: TopicRefusal) -> CompileError {
        CompileError::TopicRefused {
            table: self.table(),
            topic,
            refusal,
        }
    }
}

struct Suitable {
    kinds: &'static [Kind],
    text: &'static str,
}

/// The types that can play a role. Those made by users can where text can: enums and domains.
fn suitable(role: Role, format: Format) -> Suitable {
    match role {
        Role::Id | Role::TransferId => Suitable {
            kinds: &[Kind::Uuid, Kind::Text, Kind::Integer, Kind::User],
            text: "uuid, text or an integer type",
        },
        Role::EventType => Suitable {
            kinds: &[Kind::Text, Kind::User],
            text: "text or an enum",
        },
        Role::Payload => match format {
            Format::Envelope => Suitable {
                kinds: &[Kind::Jsonb, Kind::Json, Kind::Text, Kind::User],
                text: "jsonb, json or text (bytea only with format = \"payload\")",
            },
            Format::Payload => Suitable {
                kinds: &[Kind::Jsonb, Kind::Json, Kind::Text, Kind::Bytea, Kind::User],
                text: "jsonb, json, text or bytea",
            },
        },
        Role::Headers => Suitable {
            kinds: &[Kind::Jsonb, Kind::Json, Kind::Text, Kind::User],
            text: "jsonb, json or text",
        },
        Role::OccurredAt => Suitable {
            kinds: &[Kind::Timestamp],
            text: "timestamptz or timestamp",
        },
        Role::Seq => Suitable {
            kinds: &[Kind::Integer],
            text: "bigint or a smaller integer",
        },
        Role::Key | Role::Header => Suitable {
            kinds: &[
                Kind::Uuid,
                Kind::Text,
                Kind::Integer,
                Kind::Bool,
                Kind::Json,
                Kind::Jsonb,
                Kind::Bytea,
                Kind::Timestamp,
                Kind::User,
                Kind::Other,
            ],
            text: "any type",
        },
        Role::Topic => Suitable {
            kinds: &[
                Kind::Uuid,
                Kind::Text,
                Kind::Integer,
                Kind::Bool,
                Kind::User,
                Kind::Other,
            ],
            text: "text, an enum, uuid, boolean or a number",
        },
    }
}

fn type_name(type_oid: u32) -> String {
    use pgoutput::oid;
    let name = match type_oid {
        oid::BOOL => "boolean",
        oid::BYTEA => "bytea",
        oid::INT2 => "smallint",
        oid::INT4 => "integer",
        oid::INT8 => "bigint",
        oid::TEXT => "text",
        oid::VARCHAR => "varchar",
        oid::JSON => "json",
        oid::JSONB => "jsonb",
        oid::UUID => "uuid",
        oid::NUMERIC => "numeric",
        oid::FLOAT4 => "real",
        oid::FLOAT8 => "double precision",
        oid::DATE => "date",
        oid::TIMESTAMP => "timestamp",
        oid::TIMESTAMPTZ => "timestamptz",
        _ => return format!("oid {type_oid}"),
    };
    name.into()
}
