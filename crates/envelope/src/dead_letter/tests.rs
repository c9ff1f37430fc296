#![allow(clippy::unwrap_used)]
use pgoutput::{CommitLsn, Lsn, PgTimestamp, Position};

use super::*;
use crate::{Fate, Headers, Record, RecordBatch, TableId};

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
