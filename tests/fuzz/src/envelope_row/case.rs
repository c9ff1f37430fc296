//! A table, what the operator says about it, and one row.

use arbitrary::Arbitrary;
use envelope::rfc3339::Rfc3339;
use envelope::{
    ColumnMap, Format, HeaderColumn, OptionalColumn, Origin, TableSpec, TopicPattern, TopicPolicy,
};
use pgoutput::{Column, PgTimestamp, Relation, Value, encode, oid};

/// Columns by name, each with the type that it usually has. Which of them exist a case says.
const USUAL: [(&str, u32); 10] = [
    ("id", oid::UUID),
    ("event_type", oid::TEXT),
    ("transfer_id", oid::TEXT),
    ("payload", oid::JSONB),
    ("headers", oid::JSONB),
    ("created_at", oid::TIMESTAMPTZ),
    ("seq", oid::INT8),
    ("key", oid::BYTEA),
    ("extra", oid::BOOL),
    ("region", oid::VARCHAR),
];

/// A type made by users.
const USER_TYPE: u32 = 90_001;

const TYPES: [u32; 14] = [
    oid::UUID,
    oid::TEXT,
    oid::VARCHAR,
    oid::INT2,
    oid::INT4,
    oid::INT8,
    oid::BOOL,
    oid::JSON,
    oid::JSONB,
    oid::BYTEA,
    oid::TIMESTAMPTZ,
    oid::TIMESTAMP,
    oid::NUMERIC,
    USER_TYPE,
];

/// A topic that is allowed, so that most rows get that far.
const TOPICS: [&str; 5] = [
    "transfers.all",
    "transfers.{type}",
    "{type.domain}.x",
    "{service}.{region}",
    "transfers.{extra}",
];

const MICROS_OF_YEAR_9999: i64 = 252_000_000_000_000_000;

/// A table with one row.
#[derive(Arbitrary, Clone, Debug)]
pub struct Case<'a> {
    columns: [Option<ColumnCase<'a>>; 10],
    /// Columns of no meaning before the others.
    padding: u8,
    is_bare: bool,
    allows_all: bool,
    is_short: bool,
    topic: u8,
    own_topic: Option<&'a str>,
    key: Option<u8>,
    mapped: [Mapping; 4],
    headers: Vec<(&'a str, u8)>,
    lsn: u64,
    index: u64,
    commit_micros: i64,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct ColumnCase<'a> {
    /// An index of [`TYPES`]; beyond them the usual type.
    of_type: u8,
    cell: Cell<'a>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Cell<'a> {
    /// A value of the column's type, made of these.
    Valid(&'a str, i64),
    Null,
    UnchangedToast,
    Text(&'a [u8]),
    Binary(&'a [u8]),
    /// A JSON string of any text.
    JsonString(&'a str),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Mapping {
    Unmapped,
    IfPresent,
    Mapped,
}

/// A value as it stands in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// NULL.
    Null,
    /// Not sent.
    UnchangedToast,
    /// In text form.
    Text(Vec<u8>),
    /// In binary form.
    Binary(Vec<u8>),
}

impl Case<'static> {
    /// A table of all usual columns with an ordinary row.
    pub fn ordinary() -> Self {
        let cell = |text| ColumnCase {
            of_type: u8::MAX,
            cell: Cell::Valid(text, 7),
        };
        Self {
            columns: USUAL.map(|(name, _)| {
                Some(cell(match name {
                    "event_type" => "transfers.completed",
                    "payload" | "headers" => r#"{"a": 1.0}"#,
                    other => other,
                }))
            }),
            padding: 0,
            is_bare: false,
            allows_all: true,
            is_short: false,
            topic: 0,
            own_topic: None,
            key: None,
            mapped: [Mapping::IfPresent; 4],
            headers: Vec::new(),
            lsn: 0x16B_3748,
            index: 3,
            commit_micros: 0,
        }
    }
}

impl Case<'_> {
    /// The columns that exist: name, type, value.
    pub fn columns(&self) -> Vec<(String, u32, Sent)> {
        let padding = (0..self.padding % 40).map(|n| (format!("p{n}"), oid::INT4, Sent::Null));
        let given = USUAL.iter().zip(&self.columns);
        let given = given.filter_map(|((name, usual), column)| {
            let column = column.as_ref()?;
            let of_type = *TYPES.get(usize::from(column.of_type)).unwrap_or(usual);
            Some(((*name).to_owned(), of_type, column.cell.sent(of_type)))
        });
        padding.chain(given).collect()
    }

    /// The table as the stream describes it.
    pub fn relation(&self) -> Relation {
        let columns = self.columns().into_iter();
        let columns = columns.map(|(name, type_oid, _)| Column {
            flags: 0,
            name,
            type_oid,
            type_modifier: -1,
        });
        Relation {
            oid: 16_385,
            namespace: "public".into(),
            name: "outbox".into(),
            replica_identity: b'd',
            columns: columns.collect(),
        }
    }

    /// The row as the stream brings it, perhaps short of a column.
    pub fn insert(&self) -> Vec<u8> {
        let columns = self.columns();
        let mut row: Vec<_> = columns.iter().map(|(_, _, sent)| sent.value()).collect();
        if self.is_short {
            row.pop();
        }
        let mut message = Vec::new();
        encode::insert(&mut message, 16_385, &row);
        message
    }

    /// What the operator says; `None` if the topic is no template.
    pub fn spec(&self) -> Option<TableSpec> {
        let name = |index: u8| USUAL[usize::from(index) % USUAL.len()].0.to_owned();
        let optional = |index: usize, column: &str| match self.mapped[index] {
            Mapping::Unmapped => OptionalColumn::Unmapped,
            Mapping::IfPresent => OptionalColumn::IfPresent(column.into()),
            Mapping::Mapped => OptionalColumn::Mapped(column.into()),
        };
        let fixed = TOPICS[usize::from(self.topic) % TOPICS.len()];
        let headers = self.headers.iter().take(4);
        Some(TableSpec {
            service: "transfers".into(),
            columns: ColumnMap {
                transfer_id: optional(0, "transfer_id"),
                headers: optional(1, "headers"),
                occurred_at: optional(2, "created_at"),
                seq: optional(3, "seq"),
                ..ColumnMap::default()
            },
            topic: self.own_topic.unwrap_or(fixed).parse().ok()?,
            key: self.key.map(name),
            format: if self.is_bare {
                Format::Payload
            } else {
                Format::Envelope
            },
            headers: headers
                .map(|(header, column)| HeaderColumn {
                    header: (*header).into(),
                    column: name(*column),
                })
                .collect(),
            ..TableSpec::default()
        })
    }

    /// Which topics are allowed.
    pub fn policy(&self) -> TopicPolicy {
        let mut policy = TopicPolicy::default();
        if self.allows_all {
            policy.allow.extend("*".parse::<TopicPattern>());
        }
        policy.deny.insert("outboxd.checkpoint.outbox".into());
        policy
    }

    /// Where the row comes from.
    pub fn origin(&self) -> Origin {
        super::origin(self.lsn, self.index, self.commit_micros)
    }
}

impl Cell<'_> {
    fn sent(self, of_type: u32) -> Sent {
        match self {
            Self::Valid(text, number) => Sent::Text(valid(of_type, text, number).into()),
            Self::Null => Sent::Null,
            Self::UnchangedToast => Sent::UnchangedToast,
            Self::Text(bytes) => Sent::Text(bytes.into()),
            Self::Binary(bytes) => Sent::Binary(bytes.into()),
            Self::JsonString(text) => Sent::Text(json_string(text).into()),
        }
    }
}

impl Sent {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::UnchangedToast => Value::UnchangedToast,
            Self::Text(bytes) => Value::Text(bytes),
            Self::Binary(bytes) => Value::Binary(bytes),
        }
    }
}

/// The text form of a value of that type.
fn valid(of_type: u32, text: &str, number: i64) -> String {
    match of_type {
        oid::UUID => {
            let digits = format!("{:032x}", u128::from(number.unsigned_abs()) << 17 | 5);
            let (a, b, c, d, e) = (0..8, 8..12, 12..16, 16..20, 20..32);
            let parts = [a, b, c, d, e].map(|part| digits.get(part).unwrap_or_default());
            parts.join("-")
        }
        oid::INT2 | oid::INT4 | oid::INT8 | oid::NUMERIC => number.to_string(),
        oid::BOOL => (if number < 0 { "f" } else { "t" }).into(),
        oid::JSON | oid::JSONB if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
            text.into()
        }
        oid::JSON | oid::JSONB => format!("{{\"a\": [{number}, {}]}}", json_string(text)),
        oid::BYTEA => {
            let digits = text.bytes().map(|byte| format!("{byte:02x}"));
            format!("\\x{}", digits.collect::<String>())
        }
        oid::TIMESTAMP | oid::TIMESTAMPTZ => {
            let instant = PgTimestamp(number % MICROS_OF_YEAR_9999);
            Rfc3339::new(instant).map_or_else(
                |_| "infinity".into(),
                |text| text.as_str().replace('T', " ").replace('Z', "+00"),
            )
        }
        _ => text.into(),
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
