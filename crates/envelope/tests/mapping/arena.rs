//! What a batch does with the records in it.

use envelope::{Fate, Headers, RECORD_OVERHEAD_BYTES, Record, RecordBatch, TableId};
use pgoutput::{CommitLsn, Lsn, PgTimestamp, Position};
use proptest::prelude::*;

use crate::fixture::{Case, Cell, text};

/// A record whose every part tells its number.
fn push(batch: &mut RecordBatch, number: u64) {
    let text = format!("{number:é>width$}", width = (number % 7) as usize + 1);
    let bytes = text.as_bytes();
    let headers = [("eventId", Some(bytes)), (text.as_str(), None)];
    batch.push(&Record {
        topic: &text,
        key: (!number.is_multiple_of(3)).then_some(bytes),
        value: (!number.is_multiple_of(5)).then_some(bytes),
        timestamp_ms: number as i64,
        event_id: &text,
        event_type: "type",
        transfer_id: (!number.is_multiple_of(2)).then_some(&text),
        seq: Some(number as i64),
        table: TableId(number as u16),
        position: Position {
            commit_lsn: CommitLsn(Lsn(number)),
            index: number,
        },
        commit_time: PgTimestamp(number as i64),
        xid: 7,
        fate: Fate::Sent,
        headers: Headers::from(&headers[..number as usize % 3]),
    });
}

fn batch_of(numbers: impl IntoIterator<Item = u64>) -> RecordBatch {
    let mut batch = RecordBatch::new();
    numbers
        .into_iter()
        .for_each(|number| push(&mut batch, number));
    batch
}

fn numbers(batch: &RecordBatch) -> Vec<u64> {
    batch.iter().map(|record| record.position.index).collect()
}

/// Every record is as it was when pushed, and nothing else is in the batch.
#[track_caller]
fn check(batch: &RecordBatch, expected: &[u64]) {
    assert_eq!(numbers(batch), expected);
    let fresh = batch_of(expected.iter().copied());
    assert!(batch.iter().eq(fresh.iter()));
    assert_eq!(batch.bytes(), fresh.bytes());
    assert_eq!(batch.len(), expected.len());
    assert_eq!(batch.is_empty(), expected.is_empty());
    assert!(batch.get(expected.len()).is_none());
}

#[test]
fn a_pushed_record_is_kept_as_given() {
    let headers = [("position", Some(&b"\xff"[..])), ("other", None)];
    let given = Record {
        topic: "t",
        key: Some(b"\xff"),
        value: Some(b""),
        timestamp_ms: -1,
        event_id: "id",
        event_type: "ty",
        transfer_id: None,
        seq: None,
        table: TableId(1),
        position: Position {
            commit_lsn: CommitLsn(Lsn(2)),
            index: 3,
        },
        commit_time: PgTimestamp(4),
        xid: 7,
        fate: Fate::Sent,
        headers: Headers::from(&headers[..]),
    };
    let mut batch = RecordBatch::new();
    batch.push(&given);
    assert_eq!(batch.get(0), Some(given));
    // key 1, headers 8 + 1 + 5
    assert_eq!(batch.last_record_bytes(), 15);
}

#[test]
fn bytes_count_content_and_overhead() {
    assert_eq!(RecordBatch::new().bytes(), 0);
    assert_eq!(RecordBatch::new().last_record_bytes(), 0);
    let batch = Case::outbox().map().unwrap();
    let record = batch.get(0).unwrap();
    assert!(batch.bytes() > RECORD_OVERHEAD_BYTES + record.value.unwrap().len());
    // Id, type, topic, key and their headers share the value's bytes.
    let content = record.value.unwrap().len() + record.position.to_string().len();
    assert!(
        batch.bytes() < 2 * RECORD_OVERHEAD_BYTES + content,
        "{}",
        batch.bytes()
    );
}

#[test]
fn batches_can_cross_threads() {
    let batch = batch_of(0..3);
    let batch = std::thread::spawn(move || batch).join().unwrap();
    check(&batch, &[0, 1, 2]);
}

#[test]
fn a_failed_row_leaves_the_batch_as_it_was() {
    let mut batch = Case::outbox().map().unwrap();
    let before = batch.clone();
    for broken in [
        Case::outbox().set("id", Cell::Null),
        Case::outbox().set("event_type", text("payments.made")),
        Case::outbox().set("headers", text(r#"{"a": "b", "c": "d", "#)),
        Case::outbox().set("created_at", text("infinity")),
        Case::outbox()
            .column("key", pgoutput::oid::BYTEA, text(r"\xffff0g"))
            .spec(|spec| spec.key = Some("key".into())),
    ] {
        broken.map_into(&mut batch).unwrap_err();
        assert!(batch.iter().eq(before.iter()));
        assert_eq!(batch.bytes(), before.bytes());
    }
    Case::outbox().map_into(&mut batch).unwrap();
    assert_eq!(batch.get(0), batch.get(1));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push,
    Truncate(usize),
    MoveTail(usize),
    Swap,
    Fail,
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Push),
        1 => (0..12_usize).prop_map(Step::Truncate),
        2 => (0..12_usize).prop_map(Step::MoveTail),
        1 => Just(Step::Swap),
        1 => Just(Step::Fail),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    /// Two batches and two plain lists go through the same steps.
    #[test]
    fn batches_behave_as_lists(steps in prop::collection::vec(step(), 0..60)) {
        let mut batches = [RecordBatch::new(), RecordBatch::with_capacity(100)];
        let mut lists = [Vec::new(), Vec::new()];
        for (number, step) in (0_u64..).zip(steps) {
            let [batch, other] = &mut batches;
            let [list, other_list] = &mut lists;
            match step {
                Step::Push => {
                    push(batch, number);
                    list.push(number);
                }
                Step::Truncate(length) => {
                    batch.truncate(length);
                    list.truncate(length);
                }
                Step::MoveTail(from) => {
                    batch.move_tail(from, other);
                    other_list.extend(list.drain(from.min(list.len())..));
                }
                Step::Swap => {
                    std::mem::swap(batch, other);
                    std::mem::swap(list, other_list);
                }
                Step::Fail => {
                    let broken = Case::outbox().set("headers", text(r#"{"a": "b", "#));
                    prop_assert!(broken.map_into(batch).is_err());
                }
                Step::Clear => {
                    batch.clear();
                    list.clear();
                }
            }
            check(&batches[0], &lists[0]);
            check(&batches[1], &lists[1]);
        }
    }
}

#[test]
fn a_record_that_was_opened_is_published_so_and_stays_as_it_was_written() {
    let mut batch = batch_of([1]);
    push(&mut batch, 2);
    batch.open_last("in the clear", &["eventId"]);
    push(&mut batch, 4);
    let mut moved = batch_of([7]);
    batch.clone().move_tail(1, &mut moved);
    let mut copied = batch_of([7]);
    copied.push_from(&batch, 1);
    for (batch, neighbour) in [(&batch, 1), (&moved, 7), (&copied, 7)] {
        let fresh = batch_of([neighbour, 2]);
        let (published, written) = (batch.get(1).unwrap(), batch.as_written(1).unwrap());
        assert_eq!(Some(written), fresh.get(1));
        assert_eq!(published.value, Some(&b"in the clear"[..]));
        let headers: Vec<_> = published.headers().collect();
        assert_eq!(headers, [("éé2", None)]);
        assert_eq!(batch.get(0), fresh.get(0));
        assert_eq!(batch.as_written(0), fresh.get(0));
    }
    assert_eq!(batch.get(2), batch_of([4]).get(0));
}

#[test]
fn a_record_opened_twice_is_published_as_it_was_opened_last() {
    let mut batch = batch_of([2]);
    batch.open_last("once", &["eventId"]);
    batch.open_last("twice", &[]);
    let published = batch.get(0).unwrap();
    assert_eq!(published.value, Some(&b"twice"[..]));
    assert_eq!(published.headers().len(), 2);
    assert_eq!(batch.as_written(0), batch_of([2]).get(0));
}
