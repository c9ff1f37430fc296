//! What a `read_committed` consumer sees in the end: copies, order, atomicity.

use std::collections::BTreeMap;

use envelope::{Record, RecordBatch, TableId};
use pgoutput::{CommitLsn, PgTimestamp, Position};

use super::Expectation;
use crate::Violation;
use crate::broker::{Broker, Message, PartitionId, Stored};

/// Each event once (or, where that is allowed, at least once), at its topic, and in every
/// partition in the order of commits, counting first occurrences.
///
/// That is more than the contract asks, which speaks of events with one key only.
pub(super) fn check(
    expectation: &Expectation,
    broker: &Broker,
    repeats: bool,
) -> Result<(), Violation> {
    let mut copies = vec![0_usize; expectation.events().len()];
    for (topic, partition) in broker.event_partitions() {
        check_partition(expectation, broker, (topic, partition), &mut copies)?;
    }
    for (expected, copies) in expectation.events().iter().zip(copies) {
        if copies == 0 {
            return Err(Violation::Lost(expected.position));
        }
        if copies > 1 && !repeats {
            return Err(Violation::Duplicated {
                position: expected.position,
                copies,
            });
        }
    }
    Ok(())
}

fn check_partition(
    expectation: &Expectation,
    broker: &Broker,
    (topic, partition): (&str, PartitionId),
    copies: &mut [usize],
) -> Result<(), Violation> {
    let mut latest: Option<usize> = None;
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
        if copies[rank] > 1 {
            continue;
        }
        match latest {
            Some(before) if before > rank => {
                return Err(Violation::Misordered {
                    late: expected.position,
                    early: expectation.events()[before].position,
                });
            }
            Some(_) | None => latest = Some(rank),
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
        let records = expected.records.iter().map(|id| broker.record(*id));
        let transaction = transactions.entry(expected.position.commit_lsn);
        transaction.or_default().extend(records);
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
        headers: headers.as_slice().into(),
    });
}
