//! How many committed events are not yet durable in Kafka.
//!
//! A counter in the database (the identity sequence, else the table's insert statistics) says how
//! many rows were written; what is durable is counted here. Both also count what never commits, so
//! the difference is rebased to zero whenever the stream is caught up.

use std::time::Instant;

use envelope::{RecordBatch, TableSpec};
use pgoutput::Lsn;

use crate::telemetry::{STALE_AFTER, is_streamed};

#[derive(Debug, Default, Clone)]
struct Table {
    /// The newest look at the counter.
    written: Option<i64>,
    /// The counter when the stream was last caught up, or before the first event seen.
    base: Option<i64>,
    /// Events made durable since then.
    published: i64,
    /// Events in Kafka's hands: a lower bound, for the counter is only looked at now and then.
    in_flight: i64,
}

/// The backlog of every table of a pipeline, over all its sessions.
#[derive(Debug)]
pub struct Backlog {
    services: Vec<String>,
    tables: Vec<Table>,
    /// End of the WAL when the counters were read.
    looked_at: Lsn,
    /// When that was.
    looked: Option<Instant>,
    /// How far the stream has come.
    streamed_to: Lsn,
    delivered: bool,
}

impl Backlog {
    /// Nothing is known yet.
    pub fn new(specs: &[TableSpec]) -> Self {
        Self {
            services: specs.iter().map(|s| s.service.clone()).collect(),
            tables: vec![Table::default(); specs.len()],
            looked_at: Lsn::INVALID,
            looked: None,
            streamed_to: Lsn::INVALID,
            delivered: false,
        }
    }

    /// The counters, read before the WAL ended at `lsn`.
    pub fn counted(&mut self, lsn: Lsn, counters: Vec<Option<i64>>) {
        self.looked_at = lsn;
        self.looked = Some(Instant::now());
        for (table, counter) in self.tables.iter_mut().zip(counters) {
            table.written = counter.or(table.written);
        }
        self.rebase();
    }

    /// The stream has shown everything that commits below `lsn`.
    pub fn streamed_to(&mut self, lsn: Lsn) {
        self.streamed_to = self.streamed_to.max(lsn);
        self.rebase();
    }

    /// Whether everything taken from the stream is durable.
    pub fn caught_up(&mut self, delivered: bool) {
        self.delivered = delivered;
        self.rebase();
    }

    /// A session begins: nothing is in Kafka's hands.
    pub fn start(&mut self) {
        self.delivered = false;
        for table in &mut self.tables {
            table.in_flight = 0;
        }
    }

    /// A window is on its way: before anything else is known, its first number is the base.
    pub fn taken_in(&mut self, batch: &RecordBatch) {
        for record in batch.iter().filter(is_streamed) {
            if let Some(table) = self.tables.get_mut(usize::from(record.table.0)) {
                table.in_flight += 1;
                table.base = table
                    .base
                    .or_else(|| record.seq.map(|seq| seq.saturating_sub(1)));
            }
        }
    }

    /// A window is durable.
    pub fn published(&mut self, batch: &RecordBatch) {
        for record in batch.iter().filter(is_streamed) {
            if let Some(table) = self.tables.get_mut(usize::from(record.table.0)) {
                table.published += 1;
                table.in_flight -= 1;
            }
        }
    }

    /// Whether nothing committed before the last look is missing in Kafka. An old look proves
    /// nothing: more may have been committed since.
    pub fn is_caught_up(&self) -> bool {
        self.delivered
            && self.streamed_to >= self.looked_at
            && self.looked.is_some_and(|at| at.elapsed() < STALE_AFTER)
    }

    /// Service and backlog of every table; `None` while it can't be known.
    pub fn per_table(&self) -> impl Iterator<Item = (&str, Option<u64>)> {
        let caught_up = self.is_caught_up();
        self.services
            .iter()
            .zip(&self.tables)
            .map(move |(service, table)| {
                let estimate = match (table.written, table.base) {
                    _ if caught_up => Some(0),
                    (Some(written), Some(base)) => {
                        let missing = written.saturating_sub(base).saturating_sub(table.published);
                        Some(missing.max(table.in_flight))
                    }
                    (Some(_) | None, _) => None,
                };
                (
                    service.as_str(),
                    estimate.map(|n| u64::try_from(n).unwrap_or(0)),
                )
            })
    }

    fn rebase(&mut self) {
        if !self.is_caught_up() {
            return;
        }
        for table in &mut self.tables {
            if table.written.is_some() {
                table.base = table.written;
                table.published = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use envelope::TableSpec;

    use super::*;

    fn backlog_of(backlog: &Backlog) -> Option<u64> {
        backlog.per_table().next().unwrap().1
    }

    #[test]
    fn grows_while_the_stream_stands_and_is_zero_when_caught_up() {
        let mut backlog = Backlog::new(&[TableSpec::default()]);
        assert_eq!(backlog_of(&backlog), None);
        backlog.caught_up(true);
        backlog.streamed_to(Lsn::from(10));
        backlog.counted(Lsn::from(10), vec![Some(100)]);
        assert_eq!(backlog_of(&backlog), Some(0));
        backlog.counted(Lsn::from(20), vec![Some(130)]);
        assert_eq!(backlog_of(&backlog), Some(30));
        backlog.streamed_to(Lsn::from(20));
        assert_eq!(backlog_of(&backlog), Some(0));
    }

    #[test]
    fn an_old_look_is_no_proof() {
        let mut backlog = Backlog::new(&[TableSpec::default()]);
        backlog.caught_up(true);
        backlog.streamed_to(Lsn::from(10));
        backlog.counted(Lsn::from(10), vec![Some(100)]);
        assert!(backlog.is_caught_up());
        backlog.looked = Instant::now().checked_sub(STALE_AFTER);
        assert!(!backlog.is_caught_up());
    }

    #[test]
    fn numbers_that_never_commit_leave_nothing_behind() {
        let mut backlog = Backlog::new(&[TableSpec::default()]);
        backlog.caught_up(true);
        backlog.streamed_to(Lsn::from(30));
        backlog.counted(Lsn::from(10), vec![Some(100)]);
        backlog.counted(Lsn::from(20), vec![Some(150)]);
        backlog.counted(Lsn::from(40), vec![Some(151)]);
        assert_eq!(backlog_of(&backlog), Some(1));
    }
}
