//! The headers of a record.

use envelope::{Format, HeaderColumn};
use pgoutput::oid;

use crate::fixture::{Case, Cell, ID, text, utf8};

type Expected<'a> = &'a [(&'a str, Option<&'a str>)];

const FIXED: [(&str, Option<&str>); 4] = [
    ("eventId", Some(ID)),
    ("type", Some("transfers.completed")),
    ("content-type", Some("application/json")),
    ("position", Some("0/16B3748:3")),
];

/// `expected` follow the four that every record has.
#[track_caller]
fn check(case: &Case, expected: Expected<'_>) {
    let batch = case.map().unwrap();
    let record = batch.get(0).unwrap();
    let found: Vec<_> = record
        .headers()
        .map(|(name, value)| (name, utf8(value)))
        .collect();
    let found: Vec<_> = found
        .iter()
        .map(|(name, value)| (*name, value.as_deref()))
        .collect();
    assert_eq!(found, [&FIXED[..], expected].concat());
    assert_eq!(record.headers().len(), found.len());
}

fn with_headers(json: &str) -> Case {
    Case::outbox().set("headers", text(json))
}

#[test]
fn every_record_has_four_headers() {
    check(&Case::outbox(), &[]);
    check(&Case::outbox().without("headers"), &[]);
}

#[test]
fn members_of_the_headers_column_become_headers() {
    check(&with_headers("{}"), &[]);
    check(&with_headers(" { } "), &[]);
    check(&with_headers("null"), &[]);
    check(
        &with_headers(
            r#"{"s": "text", "e": "", "n": null, "i": 12345678901234567890.10, "t": true,
                "a": [1,  "x"], "o": {"x" :1}}"#,
        ),
        &[
            ("s", Some("text")),
            ("e", Some("")),
            ("n", None),
            ("i", Some("12345678901234567890.10")),
            ("t", Some("true")),
            ("a", Some(r#"[1,  "x"]"#)),
            ("o", Some(r#"{"x" :1}"#)),
        ],
    );
}

#[test]
fn escapes_in_names_and_strings_are_resolved() {
    check(
        &with_headers(r#"{"a\"\u00fc": "x\ny\\ \ud83d\ude00", "ü": "ü"}"#),
        &[("a\"ü", Some("x\ny\\ 😀")), ("ü", Some("ü"))],
    );
}

#[test]
fn names_may_occur_more_than_once_in_json() {
    let case = Case::outbox().column("headers", oid::JSON, text(r#"{"a":"1","a":"2"}"#));
    check(&case, &[("a", Some("1")), ("a", Some("2"))]);
}

#[test]
fn a_row_cannot_replace_the_fixed_headers() {
    check(
        &with_headers(
            r#"{"eventId": "x", "type": "x", "content-type": "x", "position": "x", "Type": "y"}"#,
        ),
        &[("Type", Some("y"))],
    );
}

#[test]
fn trace_context_passes_through() {
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    check(
        &with_headers(&format!(r#"{{"traceparent": "{traceparent}"}}"#)),
        &[("traceparent", Some(traceparent))],
    );
}

#[test]
fn header_columns_precede_the_rows_own_headers() {
    let column = |column: &str, header: &str| HeaderColumn {
        column: column.into(),
        header: header.into(),
    };
    let case = with_headers(r#"{"own": "1"}"#)
        .column("tenant", oid::VARCHAR, text("acme"))
        .column("paid", oid::BOOL, text("f"))
        .column("amount", oid::NUMERIC, text("1.10"))
        .column("note", oid::TEXT, Cell::Null)
        .spec(|spec| {
            spec.headers = vec![
                column("tenant", "x-tenant"),
                column("paid", "paid"),
                column("amount", "amount"),
                column("note", "note"),
                column("created_at", "at"),
            ];
        });
    check(
        &case,
        &[
            ("x-tenant", Some("acme")),
            ("paid", Some("false")),
            ("amount", Some("1.10")),
            ("note", None),
            ("at", Some("2026-11-23T10:51:18.500000Z")),
            ("own", Some("1")),
        ],
    );
}

#[test]
fn the_content_type_of_bytea_is_octet_stream() {
    let content_type = |case: Case| {
        let batch = case
            .spec(|spec| spec.format = Format::Payload)
            .map()
            .unwrap();
        utf8(batch.get(0).unwrap().headers().nth(2).unwrap().1).unwrap()
    };
    let bytea = Case::outbox().column("payload", oid::BYTEA, text(r"\x00"));
    assert_eq!(content_type(bytea), "application/octet-stream");
    assert_eq!(content_type(Case::outbox()), "application/json");
}

#[test]
fn other_documents_are_refused_without_quoting_them() {
    for json in [
        r#""secret""#,
        "[]",
        "1",
        "{\"a\":1",
        "{} x",
        "",
        r#"{"a": "\ud800"}"#,
    ] {
        let case = Case::outbox().column("headers", oid::TEXT, text(json));
        case.check_error(
            "bad-headers",
            "column \"headers\" is not a JSON object of headers",
        );
    }
}
