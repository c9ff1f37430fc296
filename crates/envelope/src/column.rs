//! A mapped column and the reading of its values, in text and in binary form.

use std::fmt::{self, Write as _};

use pgoutput::{Column, PgTimestamp, Value, oid};

use crate::{
    batch::{Data, RecordBuilder},
    error::{MapError, MapReason},
    rfc3339::{Rfc3339, parse_postgres},
};

/// Oids from here on are given to types made by users (`FirstNormalObjectId`).
const FIRST_USER_OID: u32 = 16_384;

/// The version that precedes the text in jsonb's binary form (`jsonb_send`).
const JSONB_VERSION: u8 = 1;

/// What a column's type means for reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Uuid,
    Text,
    Integer,
    Bool,
    Json,
    Jsonb,
    Bytea,
    /// With or without time zone; without counts as UTC.
    Timestamp,
    /// Made by users: enums, domains, extensions' types. Read as text only.
    User,
    /// Any other built-in type. Read as text only.
    Other,
}

impl Kind {
    pub(crate) fn of_type(type_oid: u32) -> Self {
        match type_oid {
            oid::UUID => Self::Uuid,
            oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME => Self::Text,
            oid::INT2 | oid::INT4 | oid::INT8 => Self::Integer,
            oid::BOOL => Self::Bool,
            oid::JSON => Self::Json,
            oid::JSONB => Self::Jsonb,
            oid::BYTEA => Self::Bytea,
            oid::TIMESTAMP | oid::TIMESTAMPTZ => Self::Timestamp,
            FIRST_USER_OID.. => Self::User,
            _ => Self::Other,
        }
    }
}

/// A column that is mapped.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    name: Box<str>,
    index: usize,
    kind: Kind,
}

/// A value that is not NULL.
#[derive(Clone, Copy)]
enum Raw<'a> {
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

impl Field {
    pub(crate) fn new(index: usize, column: &Column) -> Self {
        Self {
            name: column.name.as_str().into(),
            index,
            kind: Kind::of_type(column.type_oid),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn error(&self, reason: MapReason) -> MapError {
        MapError {
            column: Some(self.name.to_string()),
            reason,
        }
    }

    /// The value in its text form.
    pub(crate) fn scalar<'a>(&self, row: &[Value<'a>]) -> Result<Option<Scalar<'a>>, MapError> {
        self.read(row, scalar)
    }

    /// The value as an integer.
    pub(crate) fn integer(&self, row: &[Value<'_>]) -> Result<Option<i64>, MapError> {
        self.read(row, |_, raw| integer(raw))
    }

    /// The value as an instant.
    pub(crate) fn instant(&self, row: &[Value<'_>]) -> Result<Option<PgTimestamp>, MapError> {
        self.read(row, |_, raw| instant(raw))
    }

    /// The value as UTF-8, unchanged: of text, json and jsonb.
    pub(crate) fn document<'a>(&self, row: &[Value<'a>]) -> Result<Option<&'a str>, MapError> {
        self.read(row, |kind, raw| utf8(content(kind, raw)?))
    }

    /// Appends the value's text form, or the bytes of a bytea.
    pub(crate) fn append(
        &self,
        row: &[Value<'_>],
        record: &mut RecordBuilder<'_>,
    ) -> Result<Option<Data>, MapError> {
        if self.kind == Kind::Bytea {
            return self.append_content(row, record);
        }
        let scalar = self.scalar(row)?;
        Ok(scalar.map(|scalar| Data::Text(record.text(scalar.as_str()))))
    }

    /// Appends the value byte for byte: of text, json and jsonb their text, of a bytea its bytes.
    pub(crate) fn append_content(
        &self,
        row: &[Value<'_>],
        record: &mut RecordBuilder<'_>,
    ) -> Result<Option<Data>, MapError> {
        self.read(row, |kind, raw| match (kind, raw) {
            (Kind::Bytea, Raw::Text(hex)) => {
                let mark = record.binary_mark();
                append_hex(hex, record.binary_out())?;
                Ok(record.binary_since(mark))
            }
            (kind, raw) => Ok(record.binary(content(kind, raw)?)),
        })
    }

    fn read<'a, T>(
        &self,
        row: &[Value<'a>],
        decode: impl FnOnce(Kind, Raw<'a>) -> Result<T, MapReason>,
    ) -> Result<Option<T>, MapError> {
        let raw = match row.get(self.index) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::UnchangedToast) => return Err(self.error(MapReason::IncompleteRow)),
            Some(Value::Text(bytes)) => Raw::Text(bytes),
            Some(Value::Binary(bytes)) => Raw::Binary(bytes),
        };
        decode(self.kind, raw)
            .map(Some)
            .map_err(|reason| self.error(reason))
    }
}

/// The text form of a value.
pub(crate) enum Scalar<'a> {
    Borrowed(&'a str),
    Short(ShortText),
    Instant(Rfc3339),
}

impl Scalar<'_> {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Short(text) => text.as_str(),
            Self::Instant(text) => text.as_str(),
        }
    }
}

/// ASCII text of a uuid or an integer.
pub(crate) struct ShortText {
    bytes: [u8; 36],
    length: usize,
}

impl ShortText {
    fn integer(number: i64) -> Result<Self, MapReason> {
        let mut text = Self {
            bytes: [0; 36],
            length: 0,
        };
        match write!(text, "{number}") {
            Ok(()) => Ok(text),
            Err(fmt::Error) => Err(MapReason::Malformed {
                expected: "an integer",
            }),
        }
    }

    fn uuid(bytes: &[u8]) -> Result<Self, MapReason> {
        if bytes.len() != 16 {
            return Err(MapReason::Malformed {
                expected: "a uuid of 16 bytes",
            });
        }
        let mut text = Self {
            bytes: [b'-'; 36],
            length: 36,
        };
        let places = text.bytes.iter_mut().enumerate();
        let digits = places.filter(|(at, _)| !matches!(at, 8 | 13 | 18 | 23));
        let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
        for ((_, digit), nibble) in digits.zip(nibbles) {
            *digit = if nibble < 10 {
                b'0' + nibble
            } else {
                b'a' + nibble - 10
            };
        }
        Ok(text)
    }

    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Write for ShortText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes
            .get_mut(self.length..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

fn scalar<'a>(kind: Kind, raw: Raw<'a>) -> Result<Scalar<'a>, MapReason> {
    match (kind, raw) {
        (Kind::Uuid, Raw::Binary(bytes)) => ShortText::uuid(bytes).map(Scalar::Short),
        (Kind::Integer, Raw::Binary(_)) => ShortText::integer(integer(raw)?).map(Scalar::Short),
        (Kind::Bool, _) => boolean(raw).map(Scalar::Borrowed),
        (Kind::Timestamp, _) => {
            let text = Rfc3339::new(instant(raw)?).map_err(MapReason::BadTimestamp)?;
            Ok(Scalar::Instant(text))
        }
        (_, Raw::Text(text)) => utf8(text).map(Scalar::Borrowed),
        (_, Raw::Binary(_)) => utf8(content(kind, raw)?).map(Scalar::Borrowed),
    }
}

/// The bytes of a value whose text and binary form have the same content.
fn content(kind: Kind, raw: Raw<'_>) -> Result<&[u8], MapReason> {
    match (kind, raw) {
        (_, Raw::Text(text)) => Ok(text),
        (Kind::Text | Kind::Json | Kind::Bytea, Raw::Binary(bytes)) => Ok(bytes),
        (Kind::Jsonb, Raw::Binary(bytes)) => {
            bytes
                .strip_prefix(&[JSONB_VERSION])
                .ok_or(MapReason::Malformed {
                    expected: "jsonb of version 1",
                })
        }
        (
            Kind::Uuid | Kind::Integer | Kind::Bool | Kind::Timestamp | Kind::User | Kind::Other,
            Raw::Binary(_),
        ) => Err(MapReason::UnsupportedBinary),
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, MapReason> {
    std::str::from_utf8(bytes).map_err(|_| MapReason::NotUtf8)
}

fn integer(raw: Raw<'_>) -> Result<i64, MapReason> {
    let number = match raw {
        Raw::Text(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok()),
        Raw::Binary(&[a, b]) => Some(i16::from_be_bytes([a, b]).into()),
        Raw::Binary(&[a, b, c, d]) => Some(i32::from_be_bytes([a, b, c, d]).into()),
        Raw::Binary(bytes) => bytes.try_into().ok().map(i64::from_be_bytes),
    };
    number.ok_or(MapReason::Malformed {
        expected: "an integer",
    })
}

/// As in JSON, whatever the form: Postgres's text is `t` or `f`.
fn boolean(raw: Raw<'_>) -> Result<&'static str, MapReason> {
    match raw {
        Raw::Text(b"t") | Raw::Binary([1]) => Ok("true"),
        Raw::Text(b"f") | Raw::Binary([0]) => Ok("false"),
        Raw::Text(_) | Raw::Binary(_) => Err(MapReason::Malformed {
            expected: "a boolean",
        }),
    }
}

/// Binary timestamps, too, count microseconds from 2000-01-01 (`timestamptz_send`).
fn instant(raw: Raw<'_>) -> Result<PgTimestamp, MapReason> {
    match raw {
        Raw::Text(text) => parse_postgres(utf8(text)?).map_err(MapReason::BadTimestamp),
        Raw::Binary(bytes) => match bytes.try_into() {
            Ok(bytes) => Ok(PgTimestamp(i64::from_be_bytes(bytes))),
            Err(_) => Err(MapReason::Malformed {
                expected: "a timestamp of 8 bytes",
            }),
        },
    }
}

/// Appends what `\x0aff` stands for: `bytea_output = hex`, the default.
fn append_hex(text: &[u8], out: &mut Vec<u8>) -> Result<(), MapReason> {
    let malformed = MapReason::Malformed {
        expected: "a bytea in hex (set bytea_output = hex)",
    };
    let Some((pairs, [])) = text.strip_prefix(b"\\x").map(<[u8]>::as_chunks::<2>) else {
        return Err(malformed);
    };
    out.reserve(pairs.len());
    for [high, low] in pairs {
        match (nibble(*high), nibble(*low)) {
            (Some(high), Some(low)) => out.push(high << 4 | low),
            (None, _) | (_, None) => return Err(malformed),
        }
    }
    Ok(())
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
