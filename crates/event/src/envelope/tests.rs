#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ::envelope::{Origin, RecordBatch, RowMapper, TableId, TableSpec, TopicPolicy};
use pgoutput::{
    Column, CommitLsn, Lsn, Message, PgTimestamp, Position, Relation, Value, encode, oid,
};
use proptest::prelude::*;

use super::*;

const VALUE: &str = r#"{"eventId":"e-1","type":"transfers.settled","occurredAt":"2026-11-23T10:51:19.123456Z","transferId":"t-1","payload":{"amount": 12345678901234567890.10}}"#;

fn record(value: &str, headers: &[(&str, &str)]) -> Record {
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, Some(value.to_string())));
    Record {
        key: Some(Bytes::from_static(b"t-1")),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        timestamp_ms: Some(1_000),
        headers: headers.collect(),
    }
}

#[track_caller]
fn refused(record: Record, format: Format, expected: &str) {
    let message = Envelope::read(record, format).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

#[test]
fn an_envelope_is_read_and_its_payload_stays_as_it_is() {
    let headers = [
        ("eventId", "e-1"),
        ("traceparent", "00-1-2-03"),
        ("position", "0/10:2"),
    ];
    let read = Envelope::read(record(VALUE, &headers), Format::Envelope).unwrap();
    assert_eq!(
        (read.event_id.as_str(), read.event_type.as_str()),
        ("e-1", "transfers.settled")
    );
    assert_eq!(read.transfer_id.as_deref(), Some("t-1"));
    assert_eq!(
        read.payload.as_bytes(),
        br#"{"amount": 12345678901234567890.10}"#
    );
    let since_epoch = read
        .occurred_at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(since_epoch.as_micros(), 1_795_431_079_123_456);
    assert_eq!(
        (read.traceparent(), read.position()),
        (Some("00-1-2-03"), Some("0/10:2"))
    );
    assert_eq!(read.encryption(), None);
}

#[test]
fn whatever_says_that_it_is_encrypted_does() {
    let marked = |value: Option<&'static [u8]>| {
        let headers = [(CONTENT_ENCRYPTION_HEADER, value)].into_iter().collect();
        let record = Record {
            headers,
            ..record(VALUE, &[])
        };
        let read = Envelope::read(record, Format::Envelope).unwrap();
        read.encryption().map(<[u8]>::to_vec)
    };
    assert_eq!(marked(Some(b"jwe")), Some(b"jwe".to_vec()));
    assert_eq!(marked(Some(b"\xff")), Some(b"\xff".to_vec()));
    assert_eq!(marked(None), Some(Vec::new()));
}

#[test]
fn what_is_shown_of_an_event_is_not_its_content() {
    let record = record(VALUE, &[("secret-name", "secret-value")]);
    let read = Envelope::read(record.clone(), Format::Envelope).unwrap();
    let shown = format!("{record:?} {read:?}");
    for content in ["amount", "1234567890", "secret-value"] {
        assert!(!shown.contains(content), "{shown}");
    }
    assert!(
        shown.contains("secret-name") && shown.contains("Json(35 bytes)"),
        "{shown}"
    );
}

#[test]
fn a_bare_payload_is_an_event_by_its_headers() {
    let headers = [
        ("eventId", "e-1"),
        ("type", "a"),
        ("content-type", "application/json"),
    ];
    let read = Envelope::read(record("[1]", &headers), Format::Payload).unwrap();
    assert_eq!(read.transfer_id.as_deref(), Some("t-1"));
    assert_eq!(
        read.occurred_at,
        SystemTime::UNIX_EPOCH + Duration::from_secs(1)
    );
    assert_eq!(read.payload.parse::<Vec<u8>>().unwrap(), [1]);

    let headers = [
        ("eventId", "t-1"),
        ("type", "a"),
        ("content-type", "application/octet-stream"),
    ];
    let read = Envelope::read(record("\u{1}", &headers), Format::Payload).unwrap();
    assert_eq!(read.transfer_id, None, "the key is the event id");
    assert_eq!(read.payload, Payload::Binary(Bytes::from_static(b"\x01")));

    let tombstone = Record {
        value: None,
        ..record("", &headers)
    };
    let read = Envelope::read(tombstone, Format::Payload).unwrap();
    assert_eq!(read.payload, Payload::Absent);
    assert_eq!(read.payload.parse::<Option<u8>>().unwrap(), None);
}

#[test]
fn what_is_no_event_is_refused_with_its_reason() {
    let change = |from: &str, to: &str| record(&VALUE.replace(from, to), &[]);
    refused(
        change("\"e-1\"", "\"\""),
        Format::Envelope,
        "eventId is empty",
    );
    refused(
        change("transfers.settled", ""),
        Format::Envelope,
        "type is empty",
    );
    refused(change("2026-11-23T", ""), Format::Envelope, "RFC 3339");
    refused(
        change("\"payload\"", "\"load\""),
        Format::Envelope,
        "missing field `payload`",
    );
    refused(record("no json", &[]), Format::Envelope, "not an envelope");
    refused(
        record(VALUE, &[("eventId", "e-2")]),
        Format::Envelope,
        "says \"e-2\"",
    );
    refused(
        record(VALUE, &[("type", "x")]),
        Format::Envelope,
        "header type",
    );
    let tombstone = Record {
        value: None,
        ..record("", &[])
    };
    refused(tombstone, Format::Envelope, "bare payloads");
    refused(
        record("{}", &[("type", "a")]),
        Format::Payload,
        "eventId is missing",
    );
    refused(
        record("{}", &[("eventId", "a"), ("type", "")]),
        Format::Payload,
        "type is missing",
    );
}

/// What the relay makes of a row, as a consumer gets it.
fn published(id: &str, transfer_id: Option<&str>, payload: &str, format: Format) -> Record {
    let columns = [
        ("id", oid::TEXT, Some(id)),
        ("event_type", oid::TEXT, Some("transfers.settled")),
        ("transfer_id", oid::TEXT, transfer_id),
        ("payload", oid::JSON, Some(payload)),
    ];
    let relation = Relation {
        oid: 16_385,
        namespace: "public".into(),
        name: "outbox".into(),
        replica_identity: b'd',
        columns: columns
            .iter()
            .map(|(name, type_oid, _)| column(name, *type_oid))
            .collect(),
    };
    let row =
        columns.map(|(_, _, cell)| cell.map_or(Value::Null, |text| Value::Text(text.as_bytes())));
    let mut message = Vec::new();
    encode::insert(&mut message, 16_385, &row);
    let Message::Insert(insert) = pgoutput::parse(&message).unwrap() else {
        panic!("not an insert");
    };
    let spec = TableSpec {
        format,
        ..TableSpec::default_outbox()
    };
    let policy = TopicPolicy::default();
    let mut mapper = RowMapper::compile(&spec, TableId(0), &policy, &relation).unwrap();
    let position = Position {
        commit_lsn: CommitLsn(Lsn(16)),
        index: 2,
    };
    let origin = Origin {
        position,
        commit_time: PgTimestamp(5_000_000),
        xid: 1,
    };
    let mut batch = RecordBatch::new();
    mapper.map(insert.tuple, origin, &mut batch).unwrap();
    let found = batch.get(0).unwrap();
    let headers = found.headers();
    Record {
        key: found.key.map(Bytes::copy_from_slice),
        value: found.value.map(Bytes::copy_from_slice),
        timestamp_ms: Some(found.timestamp_ms),
        headers: headers
            .map(|(name, value)| (name, value.map(Bytes::copy_from_slice)))
            .collect(),
    }
}

fn column(name: &str, type_oid: u32) -> Column {
    Column {
        flags: 0,
        name: name.into(),
        type_oid,
        type_modifier: -1,
    }
}

fn texts() -> impl Strategy<Value = String> {
    "[a-z\"\\\\ \u{e9}\u{1f600}]{1,12}"
}

proptest! {
    #[test]
    fn what_the_relay_writes_is_read_back(
        id in texts(),
        transfer_id in proptest::option::of(texts()),
        text in texts(),
        is_bare in any::<bool>(),
    ) {
        let format = if is_bare { Format::Payload } else { Format::Envelope };
        let payload = serde_json::json!({ "text": text }).to_string();
        let record = published(&id, transfer_id.as_deref(), &payload, format);
        let read = Envelope::read(record, format).unwrap();
        prop_assert_eq!(&read.event_id, &id);
        prop_assert_eq!(read.event_type.as_str(), "transfers.settled");
        // A bare payload shows the transfer id as its key only.
        let expected = transfer_id.filter(|found| !is_bare || *found != id);
        prop_assert_eq!(read.transfer_id, expected);
        prop_assert_eq!(read.payload.as_bytes(), payload.as_bytes());
        prop_assert_eq!(read.headers.text(POSITION_HEADER), Some("0/10:2"));
        let since_epoch = read.occurred_at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        prop_assert_eq!(since_epoch.as_secs(), 946_684_805);
    }

    #[test]
    fn no_record_panics(value in proptest::option::of(".{0,80}"), header in ".{0,8}", is_bare in any::<bool>()) {
        let format = if is_bare { Format::Payload } else { Format::Envelope };
        let value = value.map(|value| Bytes::from(value.into_bytes()));
        let headers = [("eventId", Some(header.clone())), ("type", Some(header))];
        let headers = headers.into_iter().collect();
        let _ = Envelope::read(Record { value, headers, ..Record::default() }, format);
    }
}
