//! What an event consists of, as digests: rows and records are compared without being kept.
//!
//! A row does not tell its position, nor when it was committed; so the position is left out, and of
//! an event without a time of its own the time of its envelope, which is compared with the record's.

use envelope::rfc3339::parse;
use envelope::{POSITION_HEADER, Record};
use pgoutput::PgTimestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Digests of the parts of an event. Half of SHA-256 or less is enough to tell that something is not
/// the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    key: u64,
    headers: u64,
    value: u128,
    /// Of an envelope, of all but `occurredAt`; else of the value.
    undated: u128,
}

/// A part of an event that is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Topic,
    Key,
    Value,
    Headers,
    Time,
    Position,
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Key => "key",
            Self::Value => "value",
            Self::Headers => "headers",
            Self::Time => "occurredAt",
            Self::Position => "position",
        }
    }
}

/// Where the time of an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Dated {
    /// Its row has one, or its value has none.
    Itself,
    /// It is that of the commit, which the row does not tell.
    ByCommit,
}

/// Stands for the commit time, which a row does not tell: no time of an event by chance.
pub(super) const NO_COMMIT_TIME: PgTimestamp = PgTimestamp::from_unix_micros(1);
const NO_COMMIT_TIME_TEXT: &[u8] = b"1970-01-01T00:00:00.000001Z";

impl Content {
    /// Of the parts of a record.
    pub fn of<'a>(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Self {
        let mut of_headers = Sha256::new();
        for (name, value) in headers.filter(|(name, _)| *name != POSITION_HEADER) {
            add(&mut of_headers, Some(name.as_bytes()));
            add(&mut of_headers, value);
        }
        let of_value = long(value);
        Self {
            key: short(&sole(key)),
            headers: short(&of_headers),
            value: of_value,
            undated: value.and_then(split).map_or(of_value, |envelope| {
                let mut hasher = Sha256::new();
                add(&mut hasher, Some(envelope.before));
                add(&mut hasher, Some(envelope.after));
                wide(&hasher)
            }),
        }
    }

    /// Of the record that a row becomes with [`NO_COMMIT_TIME`].
    pub fn of_row(record: &Record<'_>) -> (Self, Dated) {
        let content = Self::of(record.key, record.value, record.headers());
        let instant = record
            .value
            .and_then(split)
            .map(|envelope| envelope.instant);
        let dated = match instant {
            Some(instant) if instant == NO_COMMIT_TIME_TEXT => Dated::ByCommit,
            Some(_) | None => Dated::Itself,
        };
        (content, dated)
    }

    /// What is different in another one.
    pub fn differences(&self, other: &Self, dated: Dated) -> Vec<Part> {
        let same_value = match dated {
            Dated::Itself => self.value == other.value,
            Dated::ByCommit => self.undated == other.undated,
        };
        let parts = [
            (Part::Key, self.key == other.key),
            (Part::Value, same_value),
            (Part::Headers, self.headers == other.headers),
        ];
        let different = parts.into_iter().filter(|(_, is_same)| !is_same);
        different.map(|(part, _)| part).collect()
    }
}

/// The time in an envelope, microseconds since 1970.
pub(super) fn occurred_us(value: &[u8]) -> Option<i64> {
    let instant = std::str::from_utf8(split(value)?.instant).ok()?;
    parse(instant).ok().map(PgTimestamp::unix_micros)
}

/// By which events are told apart: in two tables different rows may have the same id.
pub(super) fn digest(event_type: &str, id: &str) -> u128 {
    let mut hasher = Sha256::new();
    add(&mut hasher, Some(event_type.as_bytes()));
    add(&mut hasher, Some(id.as_bytes()));
    wide(&hasher)
}

/// An envelope before, in and behind its time.
struct Envelope<'a> {
    before: &'a [u8],
    instant: &'a [u8],
    after: &'a [u8],
}

/// Envelopes have their members in one order, and no blanks between them.
fn split(value: &[u8]) -> Option<Envelope<'_>> {
    let rest = value.strip_prefix(br#"{"eventId":""#)?;
    let rest = behind_string(rest)?.strip_prefix(br#","type":""#)?;
    let rest = behind_string(rest)?.strip_prefix(br#","occurredAt":""#)?;
    let after = behind_string(rest)?;
    let (start, end) = (value.len() - rest.len(), value.len() - after.len() - 1);
    Some(Envelope {
        before: value.get(..start)?,
        instant: value.get(start..end)?,
        after,
    })
}

/// What stands behind the quotation mark that ends a JSON string.
fn behind_string(text: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return text.get(at + 1..),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Lengths tell parts apart, and what is missing from what is empty.
fn add(hasher: &mut Sha256, part: Option<&[u8]>) {
    match part {
        Some(bytes) => {
            hasher.update([1]);
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        }
        None => hasher.update([0]),
    }
}

fn sole(part: Option<&[u8]>) -> Sha256 {
    let mut hasher = Sha256::new();
    add(&mut hasher, part);
    hasher
}

fn long(part: Option<&[u8]>) -> u128 {
    wide(&sole(part))
}

fn wide(hasher: &Sha256) -> u128 {
    let digest = hasher.clone().finalize();
    digest
        .iter()
        .take(16)
        .fold(0, |number, byte| number << 8 | u128::from(*byte))
}

fn short(hasher: &Sha256) -> u64 {
    // The lower half of what is kept of it.
    wide(hasher) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = r#"{"eventId":"a\"b","type":"t","occurredAt":"2026-11-27T10:00:00.000001Z","transferId":null,"payload":{"occurredAt":"x"}}"#;

    fn content(value: &str, headers: &[(&str, &str)]) -> Content {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, Some(value.as_bytes())));
        Content::of(Some(b"k"), Some(value.as_bytes()), headers)
    }

    #[test]
    fn an_envelope_is_cut_at_its_time() {
        let later = VALUE.replace("10:00:00", "11:00:00");
        let (one, other) = (content(VALUE, &[]), content(&later, &[]));
        assert_eq!(one.differences(&other, Dated::ByCommit), []);
        assert_eq!(one.differences(&other, Dated::Itself), [Part::Value]);
        let payload = VALUE.replace(r#""x""#, r#""y""#);
        let altered = content(&payload, &[]);
        assert_eq!(one.differences(&altered, Dated::ByCommit), [Part::Value]);
        assert_eq!(occurred_us(VALUE.as_bytes()), Some(1_795_773_600_000_001));
    }

    #[test]
    fn what_is_no_envelope_has_no_time() {
        for value in ["", "{}", r#"{"eventId":"a"#, r#"{"eventId":"a\"#, "null"] {
            assert_eq!(occurred_us(value.as_bytes()), None, "{value}");
            let of = content(value, &[]);
            assert_eq!(of.value, of.undated, "{value}");
        }
    }

    #[test]
    fn every_part_counts_but_the_position() {
        let row = content(VALUE, &[("eventId", "a"), ("position", "0/10:0")]);
        let moved = content(VALUE, &[("eventId", "a"), ("position", "0/20:1")]);
        assert_eq!(row.differences(&moved, Dated::Itself), []);
        let headers = content(VALUE, &[("eventId", "a"), ("extra", "1")]);
        assert_eq!(row.differences(&headers, Dated::Itself), [Part::Headers]);
        let bytes = VALUE.as_bytes();
        let of = |key: Option<&[u8]>| Content::of(key, Some(bytes), std::iter::empty());
        assert_eq!(
            of(None).differences(&of(Some(b"")), Dated::Itself),
            [Part::Key]
        );
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let (one, other) = ([("a", "bc")], [("ab", "c")]);
        assert_ne!(content("", &one).headers, content("", &other).headers);
        assert_ne!(digest("a", "bc"), digest("ab", "c"));
    }

    #[test]
    fn a_row_without_a_time_is_known_by_the_one_that_stands_in() {
        let text = envelope::rfc3339::Rfc3339::new(NO_COMMIT_TIME);
        let text = text.map(|text| text.as_str().as_bytes().to_vec());
        assert_eq!(text.ok().as_deref(), Some(NO_COMMIT_TIME_TEXT));
    }
}
