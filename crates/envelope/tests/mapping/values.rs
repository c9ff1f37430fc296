//! The value of a record, and what is read beside it.

use envelope::{Format, OptionalColumn};
use pgoutput::oid;

use crate::fixture::{Case, Cell, ID, ID_BYTES, binary, mapped, text, utf8};

#[track_caller]
fn check(case: &Case, expected: &str) {
    case.check(|record| utf8(record.value), Some(expected.into()));
}

fn envelope(occurred_at: &str, transfer_id: &str, payload: &str) -> String {
    format!(
        r#"{{"eventId":"{ID}","type":"transfers.completed","occurredAt":"{occurred_at}","transferId":{transfer_id},"payload":{payload}}}"#
    )
}

const CREATED: &str = "2026-11-23T10:51:18.500000Z";
const COMMITTED: &str = "2026-11-23T10:51:19.123456Z";
const PAYLOAD: &str = r#"{"amount": 12345678901234567890.10}"#;

#[test]
fn an_envelope_has_five_members_and_the_payload_as_it_was() {
    check(&Case::outbox(), &envelope(CREATED, r#""tr-7""#, PAYLOAD));
}

#[test]
fn the_record_carries_what_the_relay_must_know() {
    let batch = Case::outbox().map().unwrap();
    let record = batch.get(0).unwrap();
    assert_eq!(record.event_id, ID);
    assert_eq!(record.event_type, "transfers.completed");
    assert_eq!(record.transfer_id, Some("tr-7"));
    assert_eq!(record.seq, Some(42));
    assert_eq!(record.table.0, 3);
    assert_eq!(record.position.to_string(), "0/16B3748:3");
    // date --date=2026-11-23T10:51:19.123Z +%s%3N
    assert_eq!(record.timestamp_ms, 1_795_431_079_123);
    assert_eq!(record.commit_time.unix_micros(), 1_795_431_079_123_456);
}

#[test]
fn text_and_binary_form_give_one_record() {
    let in_text = Case::outbox()
        .set("headers", text(r#"{"a": 1}"#))
        .column("flag", oid::BOOL, text("t"))
        .column("at", oid::TIMESTAMP, text("2026-11-23 10:51:18.5"))
        .column("small", oid::INT2, text("-5"))
        .column("blob", oid::BYTEA, text(r"\x00ff7a"))
        .spec(|spec| {
            spec.headers = ["id", "flag", "at", "small", "seq", "blob", "payload"]
                .map(|name| envelope::HeaderColumn {
                    column: name.into(),
                    header: name.into(),
                })
                .into();
        });
    // 2026-11-23 10:51:18.5 is 848746278.5 s after 2000-01-01.
    let at = 848_746_278_500_000_i64.to_be_bytes();
    let in_binary = in_text
        .clone()
        .set("id", binary(ID_BYTES))
        .set("seq", binary(42_i64.to_be_bytes()))
        .set("event_type", binary("transfers.completed"))
        .set("transfer_id", binary("tr-7"))
        .set("payload", binary(format!("\x01{PAYLOAD}")))
        .set("headers", binary("\x01{\"a\": 1}"))
        .set("created_at", binary(at))
        .set("flag", binary([1]))
        .set("at", binary(at))
        .set("small", binary((-5_i16).to_be_bytes()))
        .set("blob", binary(b"\x00\xffz"));
    let (one, other) = (in_text.map().unwrap(), in_binary.map().unwrap());
    assert_eq!(one.get(0), other.get(0));
    let value = utf8(one.get(0).unwrap().value).unwrap();
    assert_eq!(value, envelope(CREATED, r#""tr-7""#, PAYLOAD));
}

#[test]
fn ids_may_be_uuids_text_or_integers() {
    for (type_oid, cell, expected) in [
        (oid::UUID, text(ID), ID),
        (oid::UUID, binary(ID_BYTES), ID),
        (oid::TEXT, text("ev 1"), "ev 1"),
        (oid::VARCHAR, binary("ev 1"), "ev 1"),
        (oid::INT2, binary((-7_i16).to_be_bytes()), "-7"),
        (oid::INT4, binary(7_i32.to_be_bytes()), "7"),
        (
            oid::INT8,
            binary(i64::MIN.to_be_bytes()),
            "-9223372036854775808",
        ),
        (
            oid::INT8,
            text("9223372036854775807"),
            "9223372036854775807",
        ),
        (90_001, text("of a domain"), "of a domain"),
    ] {
        let case = Case::outbox().column("id", type_oid, cell.clone());
        case.check(|record| record.event_id.to_owned(), expected.into());
        let case = Case::outbox().column("transfer_id", type_oid, cell);
        case.check(
            |record| record.transfer_id.map(str::to_owned),
            Some(expected.into()),
        );
    }
}

#[test]
fn names_are_escaped_in_the_envelope_only() {
    let case = Case::outbox()
        .column("id", oid::TEXT, text("a\"b"))
        .set("transfer_id", text("x\\\ny"))
        .set("event_type", text("transfers.\u{fc}\u{1}"))
        .spec(|spec| spec.topic = "transfers.all".parse().unwrap());
    let batch = case.map().unwrap();
    let record = batch.get(0).unwrap();
    let value = utf8(record.value).unwrap();
    let expected = r#"{"eventId":"a\"b","type":"transfers.ü\u0001","occurredAt""#;
    assert!(value.starts_with(expected), "{value}");
    assert!(
        value.contains(r#""transferId":"x\\\ny","payload":"#),
        "{value}"
    );
    assert_eq!(record.event_id, "a\"b");
    assert_eq!(record.event_type, "transfers.\u{fc}\u{1}");
    assert_eq!(record.transfer_id, Some("x\\\ny"));
    assert_eq!(utf8(record.key), Some("x\\\ny".into()));
}

#[test]
fn a_missing_transfer_id_is_null() {
    let expected = envelope(CREATED, "null", PAYLOAD);
    check(&Case::outbox().set("transfer_id", Cell::Null), &expected);
    check(&Case::outbox().without("transfer_id"), &expected);
    let unmapped = |spec: &mut envelope::TableSpec| {
        spec.columns.transfer_id = OptionalColumn::Unmapped;
    };
    check(&Case::outbox().spec(unmapped), &expected);
}

#[test]
fn the_commit_time_stands_in_for_a_missing_event_time() {
    let expected = envelope(COMMITTED, r#""tr-7""#, PAYLOAD);
    check(&Case::outbox().set("created_at", Cell::Null), &expected);
    check(&Case::outbox().without("created_at"), &expected);
}

#[test]
fn a_timestamp_without_zone_counts_as_utc() {
    let case = Case::outbox()
        .column("happened", oid::TIMESTAMP, text("2019-03-24 20:52:59"))
        .spec(|spec| spec.columns.occurred_at = mapped("happened"));
    check(
        &case,
        &envelope("2019-03-24T20:52:59.000000Z", r#""tr-7""#, PAYLOAD),
    );
}

#[test]
fn a_null_payload_is_null_in_an_envelope() {
    let case = Case::outbox().set("payload", Cell::Null);
    check(&case, &envelope(CREATED, r#""tr-7""#, "null"));
}

#[test]
fn json_payloads_pass_through_byte_for_byte() {
    for payload in [
        "{ \"b\" : 1 ,\n \"a\":[ ] }",
        "12345678901234567890.10",
        "1e400",
        "\"text \\u00fc \u{fc}\"",
        "[1, 2,  3]",
        "null",
        "{\"a\": 1, \"a\": 2}",
    ] {
        let expected = envelope(CREATED, r#""tr-7""#, payload);
        for (type_oid, cell) in [
            (oid::JSON, text(payload)),
            (oid::JSON, binary(payload)),
            (oid::JSONB, text(payload)),
            (oid::JSONB, binary(format!("\x01{payload}"))),
            (oid::TEXT, text(payload)),
            (oid::VARCHAR, binary(payload)),
        ] {
            check(&Case::outbox().column("payload", type_oid, cell), &expected);
        }
    }
}

#[test]
fn text_payloads_must_be_json_in_an_envelope() {
    let case = |payload: &str| Case::outbox().column("payload", oid::TEXT, text(payload));
    let invalid = "column \"payload\" is not valid JSON (line 1, column 7 of the text)";
    case("secret").check_error(
        "bad-payload",
        invalid.replace("column 7", "column 1").as_str(),
    );
    case("{\"a\":1").check_error(
        "bad-payload",
        invalid.replace("column 7", "column 6").as_str(),
    );
    case("{} {}").check_error(
        "bad-payload",
        invalid.replace("column 7", "column 4").as_str(),
    );
    let error = case("").map().unwrap_err();
    assert_eq!(error.code(), "bad-payload");
}

#[test]
fn the_payload_format_is_the_payload_alone() {
    for (type_oid, cell, expected) in [
        (oid::JSONB, text("{\"a\": 1}"), &b"{\"a\": 1}"[..]),
        (oid::JSONB, binary("\x01{\"a\": 1}"), b"{\"a\": 1}"),
        (oid::JSON, text("{ }"), b"{ }"),
        (oid::TEXT, text("no JSON"), b"no JSON"),
        (oid::TEXT, text(""), b""),
        (oid::TEXT, text(b"\xff"), b"\xff"),
        (oid::BYTEA, text(r"\x00FF7a"), b"\x00\xffz"),
        (oid::BYTEA, text(r"\x"), b""),
        (oid::BYTEA, binary(b"\x00\xffz"), b"\x00\xffz"),
    ] {
        Case::outbox()
            .column("payload", type_oid, cell)
            .spec(|spec| spec.format = Format::Payload)
            .check(
                |record| record.value.map(<[u8]>::to_vec),
                Some(expected.to_vec()),
            );
    }
}

#[test]
fn a_null_payload_is_a_tombstone_in_payload_format() {
    let case = Case::debezium().set("payload", Cell::Null);
    case.check(|record| record.value.map(<[u8]>::to_vec), None);
    case.check(|record| utf8(record.key), Some("10711fa5".into()));
}

#[test]
fn the_columns_of_debezium_can_be_mapped() {
    let batch = Case::debezium().map().unwrap();
    let record = batch.get(0).unwrap();
    assert_eq!(record.topic, "outbox.event.User");
    assert_eq!(utf8(record.key), Some("10711fa5".into()));
    assert_eq!(
        utf8(record.value),
        Some(r#"{"email": "gh@mefi.in"}"#.into())
    );
    assert_eq!(record.event_id, ID);
    assert_eq!(record.event_type, "UserCreated");
    assert_eq!(record.transfer_id, None);
    assert_eq!(record.seq, None);
}

#[test]
fn rows_without_identity_are_refused() {
    let case = Case::outbox;
    case()
        .set("id", Cell::Null)
        .check_error("null-id", "column \"id\" is NULL: every event needs an id");
    case().column("id", oid::TEXT, text("")).check_error(
        "empty-id",
        "column \"id\" is empty: every event needs an id",
    );
    case().set("event_type", Cell::Null).check_error(
        "null-type",
        "column \"event_type\" is NULL: every event needs a type",
    );
    case().set("event_type", text("")).check_error(
        "empty-type",
        "column \"event_type\" is empty: every event needs a type",
    );
}

#[test]
fn unusable_timestamps_are_refused() {
    let infinite = "column \"created_at\" has no usable time: the timestamp is infinite";
    for cell in [
        text("infinity"),
        text("-infinity"),
        binary(i64::MAX.to_be_bytes()),
    ] {
        Case::outbox()
            .set("created_at", cell)
            .check_error("bad-timestamp", infinite);
    }
    let outside =
        "column \"created_at\" has no usable time: the timestamp is outside the years 1 to 9999";
    for cell in [
        text("0044-03-15 12:00:00+00 BC"),
        text("10000-01-01 00:00:00+00"),
    ] {
        Case::outbox()
            .set("created_at", cell)
            .check_error("bad-timestamp", outside);
    }
    let style = "column \"created_at\" has no usable time: the timestamp is not in ISO style; set \
                 DateStyle = ISO for the replication role";
    let case = Case::outbox().set("created_at", text("Mon Nov 23 10:51:19 2026 UTC"));
    case.check_error("bad-timestamp", style);
    // Without an envelope nothing needs the event time.
    let case = case.spec(|spec| spec.format = Format::Payload);
    assert!(case.map().is_ok());
}

#[test]
fn undecodable_values_are_refused() {
    let case = Case::outbox;
    let payload = |cell| Case::debezium().column("payload", oid::BYTEA, cell);
    for (case, code, message) in [
        (
            case().set("id", binary([1, 2])),
            "malformed-value",
            "\"id\" does not hold a uuid of 16 bytes",
        ),
        (
            case().set("seq", text("x")),
            "malformed-value",
            "\"seq\" does not hold an integer",
        ),
        (
            case().set("seq", binary([1])),
            "malformed-value",
            "\"seq\" does not hold an integer",
        ),
        (
            case().set("created_at", binary([1])),
            "malformed-value",
            "\"created_at\" does not hold a timestamp of 8 bytes",
        ),
        (
            case().set("payload", binary("\x02{}")),
            "malformed-value",
            "\"payload\" does not hold jsonb of version 1",
        ),
        (
            payload(text("plain \\001")),
            "malformed-value",
            "\"payload\" does not hold a bytea in hex (set bytea_output = hex)",
        ),
        (
            payload(text(r"\x0")),
            "malformed-value",
            "\"payload\" does not hold a bytea in hex (set bytea_output = hex)",
        ),
        (
            case().set("payload", text(b"\"\xff\"")),
            "not-utf8",
            "\"payload\" is not UTF-8",
        ),
        (
            case().set("event_type", text(b"\xff")),
            "not-utf8",
            "\"event_type\" is not UTF-8",
        ),
        (
            case().column("event_type", 90_001, binary("transfers.a")),
            "unsupported-binary",
            "\"event_type\" arrived in the binary form of a type that is read as text only; turn \
             binary off",
        ),
        (
            case().set("payload", Cell::UnchangedToast),
            "incomplete-row",
            "\"payload\" arrived without its out-of-line value",
        ),
    ] {
        case.check_error(code, &format!("column {message}"));
    }
}

#[test]
fn a_row_of_another_shape_is_refused() {
    let mut mapper = Case::outbox().compile().unwrap();
    let message = Case::debezium().message();
    let mut batch = envelope::RecordBatch::new();
    let tuple = crate::fixture::tuple(&message);
    let error = mapper
        .map(tuple, crate::fixture::origin(), &mut batch)
        .unwrap_err();
    assert_eq!(error.code(), "row-shape");
    assert_eq!(error.to_string(), "the row has 5 columns, its relation 10");
}

#[test]
fn wide_tables_are_read_as_well() {
    let names: Vec<&'static str> = (0..90)
        .map(|number| &*Box::leak(format!("extra_{number}").into_boxed_str()))
        .collect();
    let mut case = Case::outbox();
    for name in names {
        case.columns.insert(0, (name, oid::TEXT, text("padding")));
    }
    check(&case, &envelope(CREATED, r#""tr-7""#, PAYLOAD));
}
