//! Records of the dead-letter topic: an event as it was, and why it is there.
//!
//! The original headers come first, in their order, and [`HEADERS`] says how many they are; ours
//! follow. So the event can be told apart byte for byte, whatever its own headers are called.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::{
    batch::{Data, RecordBatch, RecordFields},
    record::{EVENT_ID_HEADER, Fate, RESERVED_HEADERS, Record, TYPE_HEADER},
};

/// Why, for people.
pub const REASON: &str = "dead-letter.reason";
/// Why, as a stable code, such as `topic-missing` or `mapping/null-type`.
pub const CLASS: &str = "dead-letter.class";
/// What the class of a row that can't become an event begins with; the mapper's code follows.
pub const UNMAPPABLE: &str = "mapping/";
/// How often publishing was tried.
pub const ATTEMPTS: &str = "dead-letter.attempts";
/// The service whose event it is.
pub const SERVICE: &str = "dead-letter.service";
/// Schema and table of the row.
pub const TABLE: &str = "dead-letter.table";
/// The row's id.
pub const ROW_ID: &str = "dead-letter.row-id";
/// Commit LSN of the transaction that inserted the row.
pub const COMMIT_LSN: &str = "dead-letter.commit-lsn";
/// Position of the change that inserted the row.
pub const POSITION: &str = "dead-letter.position";
/// Where the event was to go, if that is known.
pub const TOPIC: &str = "dead-letter.topic";
/// When publishing it failed first.
pub const FIRST_FAILURE: &str = "dead-letter.first-failure";
/// When it failed last.
pub const LAST_FAILURE: &str = "dead-letter.last-failure";
/// The value only describes the event, which is too large for the topic.
pub const STUB: &str = "dead-letter.stub";
/// The request that has put it there again, or that it was resolved by.
pub const REQUEST: &str = "dead-letter.request";
/// Of an event that was published from a dead letter and is dead again: partition and offset of its
/// first one, which tell the order among the letters of its key.
pub const ORIGIN: &str = "dead-letter.origin";
/// How many of the headers are the event's own.
pub const HEADERS: &str = "dead-letter.headers";
/// Of a stub whose event has a longer key than [`LONGEST_NAME`]: the key's SHA-256, in hex.
pub const KEY_SHA256: &str = "dead-letter.key-sha256";
/// Partition and offset of the entry that a resolution is about.
pub const RESOLVES: &str = "dead-letter.resolves";
/// What has become of that entry.
pub const RESOLUTION: &str = "dead-letter.resolution";

/// A record key, event id or type of more bytes is known by its SHA-256 wherever it has to be kept: parked
/// keys are held in memory and recorded, and stubs must fit into any topic.
pub const LONGEST_NAME: usize = 1024;

/// The SHA-256 that a key is known by, if it is that long.
pub fn key_digest(key: &[u8]) -> Option<[u8; 32]> {
    (key.len() > LONGEST_NAME).then(|| Sha256::digest(key).into())
}

/// What an event id or type is known by: itself, unless it is too long. No two are known by the same.
pub fn known_by(text: &str) -> Cow<'_, str> {
    match key_digest(text.as_bytes()) {
        // A short text of that form is none: it would have to be a digest of a long one.
        Some(digest) => Cow::Owned(format!("sha256:{}", hex(&digest))),
        None => Cow::Borrowed(text),
    }
}

/// Bytes as two hexadecimal digits each.
fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// Why an event is dead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// The dead-letter topic.
    pub to: &'a str,
    /// See [`REASON`].
    pub reason: &'a str,
    /// See [`CLASS`].
    pub class: &'a str,
    /// See [`ATTEMPTS`].
    pub attempts: u32,
    /// See [`SERVICE`].
    pub service: &'a str,
    /// See [`TABLE`].
    pub table: &'a str,
    /// See [`FIRST_FAILURE`]; RFC 3339.
    pub first_failure: &'a str,
    /// See [`LAST_FAILURE`]; RFC 3339.
    pub last_failure: &'a str,
    /// See [`REQUEST`].
    pub request: Option<&'a str>,
    /// See [`ORIGIN`].
    pub origin: Option<&'a str>,
}

impl RecordBatch {
    /// Adds the dead letter of `record`: key, value and headers are the same, unless that makes
    /// more than `max_bytes`. Then the value only describes the event, and what is long of its key, id and
    /// type is told by a digest.
    pub fn push_dead_letter(
        &mut self,
        record: &Record<'_>,
        dead: &DeadLetter<'_>,
        max_bytes: usize,
    ) {
        if !self.try_push(record, dead, Form::Whole, max_bytes) {
            let stub = stub(record, dead);
            let (id, event_type) = (known_by(record.event_id), known_by(record.event_type));
            // By these it is known again; the others may be what is large.
            let kept = record
                .headers()
                .filter(|(name, _)| RESERVED_HEADERS.contains(name));
            let kept = kept.map(|(name, value)| match name {
                EVENT_ID_HEADER => (name, Some(id.as_bytes())),
                TYPE_HEADER => (name, Some(event_type.as_bytes())),
                _ => (name, value),
            });
            let kept: Vec<_> = kept.collect();
            let digest = record.key.and_then(key_digest).map(|digest| hex(&digest));
            let described = Record {
                key: digest.as_deref().map(str::as_bytes).or(record.key),
                value: Some(stub.as_bytes()),
                headers: crate::Headers::from(&kept[..]),
                ..record.clone()
            };
            let form = Form::Stub {
                row_id: &id,
                key: digest.as_deref(),
            };
            // Nothing that is left can be large.
            self.try_push(&described, dead, form, usize::MAX);
        }
    }

    /// Adds it unless it takes more than `max_bytes`.
    fn try_push(
        &mut self,
        record: &Record<'_>,
        dead: &DeadLetter<'_>,
        form: Form<'_>,
        max_bytes: usize,
    ) -> bool {
        let before = self.len();
        let mut copy = self.begin();
        let topic = copy.text(dead.to);
        let key = record.key.map(|key| copy.binary(key));
        let value = record.value.map(|value| copy.binary(value));
        let (event_id, event_type) = (copy.text(record.event_id), copy.text(record.event_type));
        let transfer_id = record.transfer_id.map(|id| copy.text(id));
        let mut own = 0_usize;
        for (name, value) in record.headers() {
            let name = copy.text(name);
            let value = value.map(|value| copy.binary(value));
            copy.header(name, value);
            own += 1;
        }
        let attempts = dead.attempts.to_string();
        let position = record.position.to_string();
        let commit_lsn = record.position.commit_lsn.to_string();
        let own = own.to_string();
        let known = |text| (!str::is_empty(text)).then_some(text);
        let (row_id, stub, key_sha256) = match form {
            Form::Whole => (record.event_id, None, None),
            Form::Stub { row_id, key } => (row_id, Some("true"), key),
        };
        let ours = [
            (REASON, Some(dead.reason)),
            (CLASS, Some(dead.class)),
            (ATTEMPTS, Some(attempts.as_str())),
            (SERVICE, Some(dead.service)),
            (TABLE, Some(dead.table)),
            (ROW_ID, known(row_id)),
            (COMMIT_LSN, Some(commit_lsn.as_str())),
            (POSITION, Some(position.as_str())),
            (TOPIC, known(record.topic)),
            (FIRST_FAILURE, Some(dead.first_failure)),
            (LAST_FAILURE, Some(dead.last_failure)),
            (STUB, stub),
            (KEY_SHA256, key_sha256),
            (REQUEST, dead.request),
            (ORIGIN, dead.origin),
            (HEADERS, Some(own.as_str())),
        ];
        for (name, value) in ours {
            if let Some(value) = value {
                let value = copy.text(value);
                copy.static_header(name, Data::Text(value));
            }
        }
        copy.finish(RecordFields {
            topic,
            key,
            value,
            timestamp_ms: record.timestamp_ms,
            event_id,
            event_type,
            transfer_id,
            seq: record.seq,
            table: record.table,
            position: record.position,
            commit_time: record.commit_time,
            xid: record.xid,
            fate: Fate::Dead {
                attempts: dead.attempts,
            },
        });
        let fits = self.last_record_bytes() <= max_bytes;
        if !fits {
            self.truncate(before);
        }
        fits
    }
}

/// How much of the event a dead letter holds.
#[derive(Clone, Copy)]
enum Form<'a> {
    Whole,
    /// The value describes it.
    Stub {
        row_id: &'a str,
        /// What its long key is known by.
        key: Option<&'a str>,
    },
}

/// What stands for an event that is too large even for the dead-letter topic.
fn stub(record: &Record<'_>, dead: &DeadLetter<'_>) -> String {
    let value = record.value.unwrap_or_default();
    serde_json::json!({
        "size": record.bytes(),
        "sha256": hex(&Sha256::digest(value)),
        "table": dead.table,
        "rowId": known_by(record.event_id),
        "position": record.position.to_string(),
    })
    .to_string()
}

/// An entry of a dead-letter topic, or the resolution of one, as a reader finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// An event that could not be published.
    Entry(Box<Entry<'a>>),
    /// What has become of an entry.
    Resolution {
        /// Partition of the entry.
        partition: i32,
        /// Offset of the entry.
        offset: i64,
        /// `replayed` or `dropped`.
        resolution: &'a str,
        /// The request that did it.
        request: &'a str,
    },
}

/// An event that could not be published. What a header does not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    /// See [`REASON`].
    pub reason: &'a str,
    /// See [`CLASS`].
    pub class: &'a str,
    /// See [`ATTEMPTS`].
    pub attempts: u32,
    /// See [`SERVICE`].
    pub service: &'a str,
    /// See [`TABLE`].
    pub table: &'a str,
    /// See [`ROW_ID`].
    pub row_id: &'a str,
    /// See [`POSITION`].
    pub position: &'a str,
    /// See [`TOPIC`].
    pub topic: &'a str,
    /// See [`FIRST_FAILURE`].
    pub first_failure: &'a str,
    /// See [`LAST_FAILURE`].
    pub last_failure: &'a str,
    /// See [`REQUEST`].
    pub request: &'a str,
    /// See [`ORIGIN`]; `None` if this is the first one.
    pub origin: Option<(i32, i64)>,
    /// See [`STUB`].
    pub is_stub: bool,
    /// See [`KEY_SHA256`].
    pub key_sha256: &'a str,
    /// The event's own headers.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl<'a> Entry<'a> {
    /// The value of one of the event's own headers.
    pub fn header(&self, name: &str) -> &'a str {
        text_of(&self.headers, name)
    }

    /// Whether key, value and headers are those of the event, so that it can be published. A stub only
    /// describes it, and of a row that could not be mapped only parts are there.
    pub fn is_event(&self) -> bool {
        !self.is_stub && !self.class.starts_with(UNMAPPABLE) && !self.topic.is_empty()
    }
}

impl<'a> Found<'a> {
    /// What the headers of a record say; `None` if it is not one of ours.
    pub fn read(headers: &[(&'a str, Option<&'a [u8]>)]) -> Option<Self> {
        // Every entry ends with it, whatever the event's own headers are called.
        if headers.last().is_none_or(|(name, _)| *name != HEADERS) {
            let (partition, offset) = place(text_of(headers, RESOLVES))?;
            return Some(Self::Resolution {
                partition,
                offset,
                resolution: text_of(headers, RESOLUTION),
                request: text_of(headers, REQUEST),
            });
        }
        let own: usize = text_of(headers, HEADERS).parse().ok()?;
        let (event, ours) = headers.split_at_checked(own)?;
        Some(Self::Entry(Box::new(Entry {
            reason: text_of(ours, REASON),
            class: text_of(ours, CLASS),
            attempts: text_of(ours, ATTEMPTS).parse().unwrap_or(1),
            service: text_of(ours, SERVICE),
            table: text_of(ours, TABLE),
            row_id: text_of(ours, ROW_ID),
            position: text_of(ours, POSITION),
            topic: text_of(ours, TOPIC),
            first_failure: text_of(ours, FIRST_FAILURE),
            last_failure: text_of(ours, LAST_FAILURE),
            request: text_of(ours, REQUEST),
            origin: place(text_of(ours, ORIGIN)),
            is_stub: text_of(ours, STUB) == "true",
            key_sha256: text_of(ours, KEY_SHA256),
            headers: event.to_vec(),
        })))
    }
}

/// Partition and offset, as `partition:offset`.
fn place(text: &str) -> Option<(i32, i64)> {
    let (partition, offset) = text.split_once(':')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

/// What a dead letter says under one of the names above; empty if it does not.
pub fn text<'a>(record: &Record<'a>, name: &str) -> &'a str {
    // The last one: the event's own headers come first.
    let named = record.headers().filter(|(found, _)| *found == name);
    let value = named.last().and_then(|(_, value)| value);
    std::str::from_utf8(value.unwrap_or_default()).unwrap_or_default()
}

/// The last header of that name, as text; empty if there is none.
fn text_of<'a>(headers: &[(&'a str, Option<&'a [u8]>)], name: &str) -> &'a str {
    let found = headers.iter().rev().find(|(found, _)| *found == name);
    let value = found.and_then(|(_, value)| *value).unwrap_or_default();
    std::str::from_utf8(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pgoutput::{CommitLsn, Lsn, PgTimestamp, Position};

    use super::*;
    use crate::{Headers, TableId};

    fn record<'a>(value: &'a [u8], headers: &'a [(&'a str, Option<&'a [u8]>)]) -> Record<'a> {
        Record {
            topic: "transfers.settled",
            key: Some(b"k"),
            value: Some(value),
            timestamp_ms: 5,
            event_id: "e1",
            event_type: "transfers.settled",
            transfer_id: Some("k"),
            seq: Some(1),
            table: TableId(0),
            position: Position {
                commit_lsn: CommitLsn(Lsn::from(0x10)),
                index: 2,
            },
            commit_time: PgTimestamp(0),
            xid: 7,
            fate: Fate::Sent,
            headers: Headers::from(headers),
        }
    }

    fn dead() -> DeadLetter<'static> {
        DeadLetter {
            to: "bank.dead-letter",
            reason: "topic transfers.settled does not exist",
            class: "topic-missing",
            attempts: 6,
            service: "bank",
            table: "public.outbox",
            origin: Some("1:7"),
            ..DeadLetter::default()
        }
    }

    fn headers_of(batch: &RecordBatch) -> Vec<(&str, Option<&[u8]>)> {
        batch.get(0).unwrap().headers().collect()
    }

    #[test]
    fn the_event_can_be_told_from_what_is_said_of_it() {
        let own: [(&str, Option<&[u8]>); 5] = [
            ("eventId", Some(b"e1")),
            (REASON, Some(b"the event's own")),
            (RESOLVES, Some(b"0:5")),
            (HEADERS, Some(b"1")),
            ("nothing", None),
        ];
        let mut batch = RecordBatch::new();
        batch.push_dead_letter(&record(b"{}", &own), &dead(), 10_000);
        let letter = batch.get(0).unwrap();
        assert_eq!(
            (letter.topic, letter.value),
            ("bank.dead-letter", Some(&b"{}"[..]))
        );
        assert_eq!(letter.fate, Fate::Dead { attempts: 6 });
        let headers = headers_of(&batch);
        let Some(Found::Entry(entry)) = Found::read(&headers) else {
            panic!("{headers:?}");
        };
        assert_eq!(entry.headers, own);
        assert_eq!(entry.reason, dead().reason);
        assert_eq!(
            (entry.class, entry.attempts, entry.topic),
            ("topic-missing", 6, "transfers.settled")
        );
        assert_eq!(
            (entry.row_id, entry.position, entry.is_stub),
            ("e1", "0/10:2", false)
        );
        assert_eq!(entry.origin, Some((1, 7)));
    }

    #[test]
    fn a_stub_stands_for_what_is_too_large() {
        let value = vec![b'x'; 5000];
        let mut batch = RecordBatch::new();
        let own: [(&str, Option<&[u8]>); 3] = [
            ("eventId", Some(b"e1")),
            ("large", Some(&value)),
            ("type", Some(b"transfers.settled")),
        ];
        batch.push_dead_letter(&record(&value, &own), &dead(), 4000);
        assert_eq!(batch.len(), 1);
        let letter = batch.get(0).unwrap();
        let stub: serde_json::Value = serde_json::from_slice(letter.value.unwrap()).unwrap();
        assert_eq!(stub["rowId"], "e1");
        assert_eq!(stub["size"], 10_036);
        let headers = headers_of(&batch);
        let Some(Found::Entry(entry)) = Found::read(&headers) else {
            panic!("{headers:?}");
        };
        assert!(entry.is_stub);
        assert_eq!(
            entry.headers,
            [own[0], own[2]],
            "by which it is known again"
        );
    }

    #[test]
    fn a_stub_is_small_however_long_key_id_and_type_are_and_tells_them_apart() {
        let stub_of = |last: u8| {
            let mut long = vec![b'k'; 3_000_000];
            long.push(last);
            let text = std::str::from_utf8(&long).unwrap();
            let own: [(&str, Option<&[u8]>); 2] = [("eventId", Some(&long)), ("type", Some(&long))];
            let large = Record {
                key: Some(&long),
                event_id: text,
                event_type: text,
                ..record(&long, &own)
            };
            let mut batch = RecordBatch::new();
            batch.push_dead_letter(&large, &dead(), 10_000_000);
            let letter = batch.get(0).unwrap();
            assert!(letter.bytes() < 10_000, "{}", letter.bytes());
            assert_eq!(letter.event_id, text, "the row that is told of it");
            let headers = headers_of(&batch);
            let Some(Found::Entry(entry)) = Found::read(&headers) else {
                panic!("{headers:?}");
            };
            assert!(entry.is_stub);
            assert_eq!(entry.row_id, known_by(text));
            assert_eq!(entry.header("type"), known_by(text));
            assert_eq!(Some(entry.key_sha256.as_bytes()), letter.key);
            (entry.key_sha256.to_owned(), entry.row_id.to_owned())
        };
        let (one, other) = (stub_of(b'1'), stub_of(b'2'));
        assert!(one.0 != other.0 && one.1 != other.1);
    }

    #[test]
    fn a_key_that_is_not_long_is_whole_in_a_stub() {
        let value = vec![b'x'; 5000];
        let mut batch = RecordBatch::new();
        batch.push_dead_letter(&record(&value, &[]), &dead(), 4000);
        assert_eq!(batch.get(0).unwrap().key, Some(&b"k"[..]));
        let headers = headers_of(&batch);
        assert!(headers.iter().all(|(name, _)| *name != KEY_SHA256));
        assert_eq!(key_digest(&[0; LONGEST_NAME]), None);
        assert!(key_digest(&[0; LONGEST_NAME + 1]).is_some());
    }

    #[test]
    fn a_foreign_record_is_none_of_ours() {
        assert_eq!(Found::read(&[("eventId", Some(b"e1"))]), None);
        assert_eq!(Found::read(&[(HEADERS, Some(b"7"))]), None);
        assert_eq!(Found::read(&[(RESOLVES, Some(b"x"))]), None);
    }
}
