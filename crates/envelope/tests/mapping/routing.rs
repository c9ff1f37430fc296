//! Topic and key of a record.

use pgoutput::oid;

use crate::fixture::{Case, Cell, binary, text, utf8};

fn routed(template: &str) -> Case {
    let topic = template.parse().unwrap();
    Case::outbox().allow_all().spec(|spec| spec.topic = topic)
}

#[test]
fn topics_follow_the_template() {
    for (template, expected) in [
        ("{type}", "transfers.completed"),
        ("{type.domain}", "transfers"),
        ("{type.domain}.events", "transfers.events"),
        ("x-{type}", "x-transfers.completed"),
        ("{service}.{type}", "outbox.transfers.completed"),
        ("ledger.fixed", "ledger.fixed"),
        ("{transfer_id}_{seq}", "tr-7_42"),
    ] {
        routed(template).check(|record| record.topic.to_owned(), expected.into());
    }
}

#[test]
fn the_domain_of_a_type_without_dots_is_the_type() {
    let case = routed("{type.domain}").set("event_type", text("transfers"));
    case.check(|record| record.topic.to_owned(), "transfers".into());
}

#[test]
fn topics_that_the_policy_refuses_are_errors() {
    let named = |topic: &str| routed("{type}").set("event_type", text(topic));
    let invalid = "no topic can have this name: 1 to 249 of the characters a-z A-Z 0-9 . _ -";
    named("a b").check_error(
        "bad-topic",
        &format!("the row goes to topic \"a b\", which is refused: {invalid}"),
    );
    let long = "é".repeat(300);
    let cut = "é".repeat(249);
    named(&long).check_error(
        "bad-topic",
        &format!("the row goes to topic {cut:?}, which is refused: {invalid}"),
    );
    named("__consumer_offsets").check_error(
        "topic-not-allowed",
        "the row goes to topic \"__consumer_offsets\", which is refused: names that start with __ are Kafka's own",
    );
    Case::outbox()
        .set("event_type", text("payments.made"))
        .check_error(
            "topic-not-allowed",
            "the row goes to topic \"payments.made\", which is refused: the topic is outside topics.allow; add a \
         pattern that matches it, or fix the routing",
        );
    let mut case = named("transfers.dead");
    case.policy.deny.insert("transfers.dead".into());
    case.check_error(
        "topic-not-allowed",
        "the row goes to topic \"transfers.dead\", which is refused: the topic is reserved for the relay's own \
         records",
    );
}

#[test]
fn a_null_in_the_topic_is_an_error() {
    routed("{transfer_id}")
        .set("transfer_id", Cell::Null)
        .check_error(
            "null-topic-column",
            "column \"transfer_id\" is NULL: it is part of the topic",
        );
}

#[test]
fn without_key_column_the_key_is_the_transfer_id_or_else_the_event_id() {
    let key = |case: Case| utf8(case.map().unwrap().get(0).unwrap().key);
    assert_eq!(key(Case::outbox()), Some("tr-7".into()));
    let id = crate::fixture::ID;
    assert_eq!(
        key(Case::outbox().set("transfer_id", Cell::Null)),
        Some(id.into())
    );
    assert_eq!(key(Case::outbox().without("transfer_id")), Some(id.into()));
}

#[test]
fn a_key_column_alone_decides_the_key() {
    for (type_oid, cell, expected) in [
        (oid::TEXT, text("k"), Some(&b"k"[..])),
        (oid::TEXT, text(""), Some(b"")),
        (oid::TEXT, Cell::Null, None),
        (oid::INT4, text("1232"), Some(b"1232")),
        (oid::INT4, binary(1232_i32.to_be_bytes()), Some(b"1232")),
        (oid::BYTEA, text(r"\x00ff"), Some(b"\x00\xff")),
        (oid::NUMERIC, text("1.50"), Some(b"1.50")),
    ] {
        let case = Case::outbox()
            .column("account", type_oid, cell)
            .spec(|spec| spec.key = Some("account".into()));
        case.check(
            |record| record.key.map(<[u8]>::to_vec),
            expected.map(<[u8]>::to_vec),
        );
    }
}
