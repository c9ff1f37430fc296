//! Mappings that do not fit.

use envelope::{Format, HeaderColumn, OptionalColumn};
use pgoutput::oid;

use crate::fixture::{Case, mapped, text};

#[track_caller]
fn check(case: &Case, expected: &str) {
    assert_eq!(case.compile().unwrap_err().to_string(), expected);
}

#[test]
fn a_missing_column_is_named_with_those_that_exist() {
    check(
        &Case::debezium().without("payload"),
        "column \"payload\" is mapped but the relation public.outboxevent has only: id, \
         aggregatetype, aggregateid, type; set columns.payload to one of these, or add the column \
         to the table (and to the publication's column list)",
    );
}

#[test]
fn every_role_needs_its_column() {
    let header = HeaderColumn {
        column: "nope".into(),
        header: "x".into(),
    };
    for (case, setting) in [
        (
            Case::outbox().spec(|spec| spec.columns.id = "nope".into()),
            "columns.id",
        ),
        (
            Case::outbox().spec(|spec| spec.columns.event_type = "nope".into()),
            "columns.event_type",
        ),
        (
            Case::outbox().spec(|spec| spec.columns.payload = "nope".into()),
            "columns.payload",
        ),
        (
            Case::outbox().spec(|spec| spec.columns.transfer_id = mapped("nope")),
            "columns.transfer_id",
        ),
        (
            Case::outbox().spec(|spec| spec.columns.headers = mapped("nope")),
            "columns.headers",
        ),
        (
            Case::outbox().spec(|spec| spec.columns.occurred_at = mapped("nope")),
            "columns.occurred_at",
        ),
        (
            Case::outbox().spec(|spec| spec.columns.seq = mapped("nope")),
            "columns.seq",
        ),
        (
            Case::outbox().spec(|spec| spec.key = Some("nope".into())),
            "key",
        ),
        (
            Case::outbox().spec(|spec| spec.headers = vec![header]),
            "headers",
        ),
        (
            Case::outbox().spec(|spec| spec.topic = "{nope}".parse().unwrap()),
            "topic",
        ),
    ] {
        let message = case.compile().unwrap_err().to_string();
        assert!(
            message.starts_with("column \"nope\" is mapped but"),
            "{message}"
        );
        assert!(
            message.contains(&format!("; set {setting} to one of these")),
            "{message}"
        );
    }
}

#[test]
fn columns_of_default_names_may_be_absent() {
    let mut case = Case::outbox();
    for name in ["transfer_id", "headers", "created_at", "seq"] {
        case = case.without(name);
    }
    assert!(case.compile().is_ok());
    // By any other name they are not found by default.
    assert_eq!(
        case.spec.columns.seq,
        OptionalColumn::IfPresent("seq".into())
    );
}

#[test]
fn unsuitable_types_are_refused() {
    for (name, type_oid, found, needs) in [
        (
            "id",
            oid::JSONB,
            "jsonb",
            "columns.id needs uuid, text or an integer type",
        ),
        (
            "event_type",
            oid::INT4,
            "integer",
            "columns.event_type needs text or an enum",
        ),
        (
            "transfer_id",
            oid::NUMERIC,
            "numeric",
            "columns.transfer_id needs uuid, text or an integer type",
        ),
        (
            "payload",
            oid::BYTEA,
            "bytea",
            "columns.payload needs jsonb, json or text (bytea only with format = \"payload\")",
        ),
        (
            "headers",
            oid::TEXT_ARRAY,
            "oid 1009",
            "columns.headers needs jsonb, json or text",
        ),
        (
            "created_at",
            oid::DATE,
            "date",
            "columns.occurred_at needs timestamptz or timestamp",
        ),
        (
            "seq",
            oid::NUMERIC,
            "numeric",
            "columns.seq needs bigint or a smaller integer",
        ),
    ] {
        check(
            &Case::outbox().column(name, type_oid, text("")),
            &format!(
                "column \"{name}\" of public.outbox is of type {found}, but {needs}; set it to \
                 another column or change the column's type"
            ),
        );
    }
    let bytea = Case::outbox()
        .column("payload", oid::BYTEA, text(""))
        .spec(|spec| spec.format = Format::Payload);
    assert!(bytea.compile().is_ok());
}

#[test]
fn reserved_headers_cannot_be_claimed() {
    let headers = vec![HeaderColumn {
        column: "state".into(),
        header: "type".into(),
    }];
    check(
        &Case::outbox().spec(|spec| spec.headers = headers),
        "column \"state\" of public.outbox can't become header \"type\", which every record has; \
         choose another name",
    );
}

#[test]
fn topics_that_can_never_be_used_are_refused_at_once() {
    let routed = |template: &str| {
        let topic = template.parse().unwrap();
        Case::outbox().spec(|spec| spec.topic = topic)
    };
    check(
        &routed("a {type}"),
        "events of public.outbox can't go to topic \"a {type}\": no topic can have this name: 1 to \
         249 of the characters a-z A-Z 0-9 . _ -",
    );
    check(
        &routed("payments"),
        "events of public.outbox can't go to topic \"payments\": the topic is outside \
         topics.allow; add a pattern that matches it, or fix the routing",
    );
    check(
        &routed("{payload}"),
        "column \"payload\" of public.outbox is the payload, which can't be part of the topic",
    );
    assert!(routed("transfers.all").compile().is_ok());
    assert!(
        routed("{type}")
            .spec(|spec| spec.service = "any name".into())
            .compile()
            .is_ok()
    );
    assert!(
        routed("{service}")
            .spec(|spec| spec.service = "any name".into())
            .compile()
            .is_err()
    );
}
