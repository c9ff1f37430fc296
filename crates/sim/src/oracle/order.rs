//! What a `read_committed` consumer sees in the end: copies, order, atomicity.

use std::collections::BTreeMap;

use envelope::{Record, RecordBatch, TableId};
use pgoutput::{CommitLsn, PgTimestamp, Position};

use super::Expectation;
use super::expectation::Expected;
use crate::Violation;
use crate::broker::{Broker, Message, RecordId, Stored};
use crate::wal::Flaw;

/// What a run has to show in the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Every event must be there.
    pub is_complete: bool,
    /// An event may be there more than once.
    pub repeats: bool,
    /// Partitions were added, maybe while a window was given up, so that a key may be in its new partition
    /// before all of it has been in its old one.
    pub keys_move: bool,
}

/// Each event that is there is there once (or, where that is allowed, at least once), at its
/// topic, and those of one partition and key are in the order of commits, counting first
/// occurrences.
///
/// Between partitions there is no order, so a key that moves because partitions are added starts
/// anew. What may not repeat is judged more strictly than the contract asks: all events of a
/// partition, whatever their keys, are in the order of commits.
pub(super) fn check(
    expectation: &Expectation,
    broker: &Broker,
    bounds: Bounds,
) -> Result<(), Violation> {
    let mut copies = vec![0_usize; expectation.events().len()];
    for (topic, partition) in broker.event_partitions() {
        for stored in broker.committed(partition, usize::MAX) {
            let event_id = stored.message.header("eventId").unwrap_or_default();
            if expectation.is_void(event_id) {
                continue;
            }
            let Some(rank) = expectation.rank(event_id) else {
                return Err(Violation::Phantom(event_id.to_owned()));
            };
            let expected = &expectation.events()[rank];
            if expected.topic != topic {
                let position = expected.position;
                let part = "topic";
                return Err(Violation::Altered { position, part });
            }
            copies[rank] += 1;
        }
    }
    for (expected, copies) in expectation.events().iter().zip(copies) {
        let burials = expected.burials.len();
        if copies + burials == 0 && bounds.is_complete {
            return Err(Violation::Lost(expected.position));
        }
        // Each request adds one, and nothing else does.
        let copies = copies + burials - expected.replays().min(copies + burials);
        if copies > 1 && !bounds.repeats {
            return Err(Violation::Duplicated {
                position: expected.position,
                copies,
            });
        }
    }
    match bounds.repeats {
        true if bounds.keys_move => Ok(()),
        true => check_order(expectation, |expected, first| {
            (first.partition, expected.key())
        }),
        false => check_order(expectation, |_, first| first.partition),
    }
}

/// First occurrences of what belongs together are in the order of commits.
fn check_order<T: Ord>(
    expectation: &Expectation,
    group: impl Fn(&Expected, &RecordId) -> T,
) -> Result<(), Violation> {
    let mut last: BTreeMap<T, (usize, Position)> = BTreeMap::new();
    for expected in expectation.events() {
        let Some(first) = expected
            .records
            .first()
            .filter(|_| expected.burials.is_empty())
        else {
            continue;
        };
        let place = (first.offset, expected.position);
        match last.insert(group(expected, first), place) {
            Some((offset, position)) if offset > first.offset => {
                return Err(Violation::Misordered {
                    late: position,
                    early: expected.position,
                });
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// A source transaction that fits in a window is in one Kafka transaction.
///
/// A window is cut inside a transaction only when that alone has reached the bound, so it fits if
/// everything but its last record stays below.
pub(super) fn check_atomicity(
    expectation: &Expectation,
    broker: &Broker,
    least_max_bytes: usize,
) -> Result<(), Violation> {
    let mut transactions: BTreeMap<CommitLsn, Vec<&Stored>> = BTreeMap::new();
    for expected in expectation.events() {
        // What is published on request comes later.
        let buried = expected.burials.first().map(|burial| burial.record);
        let first = buried.or(expected.records.first().copied());
        let records = first.map(|id| broker.record(id));
        let transaction = transactions.entry(expected.position.commit_lsn);
        transaction.or_default().extend(records);
    }
    // What a request asks for is published in its midst.
    let requests = expectation.demands.iter();
    for request in requests {
        transactions.remove(&request.position.commit_lsn);
    }
    // The description of an event is smaller than the event.
    for event in expectation.events() {
        if event.flaw() == Some(Flaw::Large) {
            transactions.remove(&event.position.commit_lsn);
        }
    }
    for (commit_lsn, records) in transactions {
        let Some((_, before_last)) = records.split_last() else {
            continue;
        };
        let first = records.first().and_then(|stored| stored.transaction);
        let is_whole = records.iter().all(|stored| stored.transaction == first);
        if !is_whole && largest_size(before_last) < least_max_bytes {
            return Err(Violation::Torn(commit_lsn.0));
        }
    }
    Ok(())
}

/// What the records take up in a batch, at most: a copied record shares no bytes between its
/// parts, one that was mapped does.
fn largest_size(records: &[&Stored]) -> usize {
    let mut batch = RecordBatch::new();
    for stored in records {
        push(&stored.message, &mut batch);
    }
    batch.bytes()
}

fn push(message: &Message, batch: &mut RecordBatch) {
    let headers: Vec<_> = message
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        .collect();
    let text = |name| message.header(name).unwrap_or_default();
    batch.push(&Record {
        topic: text("type"),
        key: message.key.as_deref(),
        value: message.value.as_deref(),
        timestamp_ms: message.timestamp_ms,
        event_id: text("eventId"),
        event_type: text("type"),
        transfer_id: std::str::from_utf8(message.key.as_deref().unwrap_or_default()).ok(),
        seq: None,
        table: TableId(0),
        position: Position {
            commit_lsn: CommitLsn(pgoutput::Lsn::INVALID),
            index: 0,
        },
        commit_time: PgTimestamp(0),
        xid: 0,
        fate: envelope::Fate::Sent,
        headers: headers.as_slice().into(),
    });
}
