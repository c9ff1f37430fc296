//! What a row says, read without the code under test.

use envelope::{OptionalColumn, TableSpec};
use pgoutput::oid;

use super::case::{Case, Sent};

/// A row with the means to ask it.
pub(super) struct Row<'c> {
    columns: Vec<(String, u32, Sent)>,
    spec: &'c TableSpec,
}

/// A value as it should come out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing there.
    Null,
    /// These bytes.
    Bytes(Vec<u8>),
    /// A form that only the code under test reads.
    Unknown,
}

impl<'c> Row<'c> {
    pub fn new(case: &Case<'_>, spec: &'c TableSpec) -> Self {
        Self {
            columns: case.columns(),
            spec,
        }
    }

    fn find(&self, name: &str) -> Option<&(String, u32, Sent)> {
        self.columns.iter().find(|(column, ..)| column == name)
    }

    /// Type of a column; 0 if there is none.
    pub fn type_of(&self, name: &str) -> u32 {
        self.find(name).map_or(0, |(_, type_oid, _)| *type_oid)
    }

    /// The content of a column: its text form, or the bytes of a bytea.
    pub fn content(&self, name: &str) -> Content {
        match self.find(name) {
            Some((_, type_oid, sent)) => content(*type_oid, sent),
            None => Content::Null,
        }
    }

    /// The content of a column that may not be mapped.
    pub fn optional(&self, column: &OptionalColumn) -> Content {
        match column {
            OptionalColumn::Unmapped => Content::Null,
            OptionalColumn::IfPresent(name) | OptionalColumn::Mapped(name) => self.content(name),
        }
    }

    /// The payload's content.
    pub fn payload(&self) -> Content {
        self.content(&self.spec.columns.payload)
    }
}

fn content(type_oid: u32, sent: &Sent) -> Content {
    let integer = |number: i64| Content::Bytes(number.to_string().into());
    match (type_oid, sent) {
        (_, Sent::Null) => Content::Null,
        (_, Sent::UnchangedToast) => Content::Unknown,
        (oid::TIMESTAMP | oid::TIMESTAMPTZ, _) => Content::Unknown,
        (oid::BOOL, Sent::Text(text)) if text == b"t" => Content::Bytes(b"true".into()),
        (oid::BOOL, Sent::Text(text)) if text == b"f" => Content::Bytes(b"false".into()),
        (oid::BOOL, _) => Content::Unknown,
        (oid::BYTEA, Sent::Text(hex)) => from_hex(hex),
        (_, Sent::Text(text)) => Content::Bytes(text.clone()),
        (oid::INT2 | oid::INT4 | oid::INT8, Sent::Binary(bytes)) => match bytes.len() {
            2 => integer(i16::from_be_bytes(array(bytes)).into()),
            4 => integer(i32::from_be_bytes(array(bytes)).into()),
            8 => integer(i64::from_be_bytes(array(bytes))),
            _ => Content::Unknown,
        },
        (oid::JSONB, Sent::Binary(bytes)) => {
            Content::Bytes(bytes.strip_prefix(b"\x01").unwrap_or_default().into())
        }
        (oid::UUID, Sent::Binary(bytes)) if bytes.len() == 16 => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let ends = [0, 8, 12, 16, 20, 32];
            let parts = ends.windows(2).map(|ends| &digits[ends[0]..ends[1]]);
            Content::Bytes(parts.collect::<Vec<_>>().join("-").into())
        }
        (_, Sent::Binary(bytes)) => Content::Bytes(bytes.clone()),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the length was matched")
}

fn from_hex(hex: &[u8]) -> Content {
    let text = str::from_utf8(hex).ok();
    let Some(digits) = text.and_then(|text| text.strip_prefix("\\x")) else {
        return Content::Unknown;
    };
    let pairs = (0..digits.len()).step_by(2);
    let bytes: Option<Vec<u8>> = pairs
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect();
    bytes.map_or(Content::Unknown, Content::Bytes)
}
