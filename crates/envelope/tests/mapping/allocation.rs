//! What memory batches take and give back.

use envelope::RecordBatch;
use pgoutput::oid;

use crate::fixture::{Case, Cell, ID_BYTES, binary, origin, text, tuple};

const ROWS: u64 = 100;

/// Allocations of mapping rows with a warm batch and mapper.
fn allocations(case: &Case) -> u64 {
    let mut mapper = case.compile().unwrap();
    let message = case.message();
    let mut batch = RecordBatch::new();
    let mut fill = |batch: &mut RecordBatch| {
        batch.clear();
        for _ in 0..ROWS {
            mapper.map(tuple(&message), origin(), batch).unwrap();
        }
    };
    fill(&mut batch);
    allocation_counter::measure(|| fill(&mut batch)).count_total
}

#[test]
fn envelopes_are_made_without_allocation() {
    for case in [
        Case::outbox(),
        Case::outbox()
            .set("headers", text("{}"))
            .set("transfer_id", Cell::Null),
        Case::outbox().column("payload", oid::TEXT, text(r#"{"a": 1, "b": "\n"}"#)),
        Case::outbox()
            .set("id", binary(ID_BYTES))
            .set("event_type", text("transfers.\"x\""))
            .spec(|spec| spec.topic = "{type.domain}.{service}".parse().unwrap()),
    ] {
        assert_eq!(allocations(&case), 0, "{case:?}");
    }
}

#[test]
fn bare_payloads_are_passed_on_without_allocation() {
    let bytea = Case::debezium().column("payload", oid::BYTEA, text(r"\x00ff"));
    assert_eq!(allocations(&Case::debezium()), 0);
    assert_eq!(allocations(&bytea), 0);
}

#[test]
fn a_parser_that_runs_allocates_at_most_once_a_row() {
    let nested = Case::outbox().column("payload", oid::TEXT, text(r#"{"a": [1, {"b": []}]}"#));
    let headers = Case::outbox().set("headers", text(r#"{"traceparent": "00-4b-f9", "n": 1}"#));
    assert!(allocations(&nested) <= ROWS);
    assert!(allocations(&headers) <= ROWS);
}

#[test]
fn records_are_read_without_allocation() {
    let batch = Case::outbox().map().unwrap();
    let counted = allocation_counter::measure(|| {
        assert_eq!(
            batch
                .iter()
                .map(|record| record.headers().count())
                .sum::<usize>(),
            4
        );
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn clearing_keeps_ordinary_capacity_and_gives_back_the_rest() {
    let large = Case::outbox().set("transfer_id", text("x".repeat(20 << 20)));
    let mut batch = RecordBatch::new();
    let counted = allocation_counter::measure(|| {
        large.map_into(&mut batch).unwrap();
        batch.clear();
    });
    let kept = 4 << 20..5 << 20;
    assert!(kept.contains(&counted.bytes_current), "{counted:?}");

    let mut batch = RecordBatch::with_capacity(30 << 20);
    let counted = allocation_counter::measure(|| {
        large.map_into(&mut batch).unwrap();
        batch.clear();
    });
    assert!((0..100_000).contains(&counted.bytes_current), "{counted:?}");
    assert!(batch.is_empty());
}
