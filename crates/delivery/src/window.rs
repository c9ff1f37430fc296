//! The window that is being filled.

use std::collections::BTreeMap;
use std::time::Instant;

use envelope::RecordBatch;
use pgoutput::{Lsn, PgTimestamp};

use crate::{Fed, ParkedKey, TransactionPosition, Verdict};

/// A place in the stream: what has been dealt with before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The last transaction dealt with, wholly or in part.
    pub position: Option<TransactionPosition>,
    /// Everything that commits below this LSN has been dealt with.
    pub confirm: Lsn,
    /// How far the feed has got that comes before the rest of the stream.
    pub fed: Option<Fed>,
}

/// Where a window may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// After the last complete transaction.
    Boundary,
    /// Inside the open transaction, which alone exceeds the byte bound.
    Middle,
}

/// Bounds of a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub max_events: usize,
    pub max_bytes: usize,
    /// Even one transaction is cut after `max_events`.
    pub cautious: bool,
}

/// Records gathered for the next window: those of complete transactions up to the boundary, and
/// behind it those of the open one.
#[derive(Debug)]
pub(crate) struct OpenWindow {
    pub batch: RecordBatch,
    /// Records that can't be published as they are, or (without a verdict) of whose topic that is
    /// not known yet.
    pub suspects: BTreeMap<usize, Option<Verdict>>,
    /// Keys to be parked behind so many records.
    pub parks: Vec<(usize, ParkedKey)>,
    /// Records that belong to complete transactions.
    boundary_records: usize,
    /// The stream's place at the boundary.
    boundary: Progress,
    opened_at: Option<Instant>,
}

impl OpenWindow {
    pub fn new(start: Progress) -> Self {
        Self {
            batch: RecordBatch::new(),
            suspects: BTreeMap::new(),
            parks: Vec::new(),
            boundary_records: 0,
            boundary: start,
            opened_at: None,
        }
    }

    pub fn boundary(&self) -> Progress {
        self.boundary
    }

    pub fn boundary_records(&self) -> usize {
        self.boundary_records
    }

    /// A record has been added.
    pub fn touch(&mut self, now: Instant) {
        self.opened_at.get_or_insert(now);
    }

    /// The open transaction is complete; `position` is given if any of it had to be published.
    pub fn complete(&mut self, position: Option<TransactionPosition>, end: Lsn) {
        self.boundary_records = self.batch.len();
        self.boundary.position = position.or(self.boundary.position);
        self.advance(end);
    }

    /// All that was gathered may be published, though the open transaction has more.
    pub fn complete_so_far(&mut self, position: Option<TransactionPosition>) {
        self.boundary_records = self.batch.len();
        self.boundary.position = position.or(self.boundary.position);
    }

    /// A feed has got further.
    pub fn set_fed(&mut self, fed: Fed) {
        self.boundary.fed = Some(fed);
    }

    /// Nothing is left to be known of the feed.
    pub fn forget_fed(&mut self) {
        self.boundary.fed = None;
    }

    /// Nothing below `lsn` is left to come.
    pub fn advance(&mut self, lsn: Lsn) {
        self.boundary.confirm = self.boundary.confirm.max(lsn);
    }

    /// No more may be added before a window has been cut off.
    pub fn is_full(&self, bounds: Bounds, in_transaction: bool) -> bool {
        self.batch.bytes() >= bounds.max_bytes
            || (!in_transaction && self.boundary_records >= bounds.max_events)
            || (bounds.cautious && self.batch.len() >= bounds.max_events)
    }

    /// How the window can be closed now, if it can: `ripe` says that complete transactions need
    /// not wait for company.
    pub fn cut(&self, bounds: Bounds, ripe: bool) -> Option<Cut> {
        let full = self.batch.bytes() >= bounds.max_bytes
            || (bounds.cautious && self.batch.len() >= bounds.max_events);
        if self.boundary_records > 0 {
            let enough = full || self.boundary_records >= bounds.max_events;
            return (enough || ripe).then_some(Cut::Boundary);
        }
        (full && !self.batch.is_empty()).then_some(Cut::Middle)
    }

    /// When the first record of this window came.
    pub fn opened_at(&self) -> Option<Instant> {
        self.opened_at
    }

    /// Commit time of the first record gathered that comes from the stream.
    pub fn oldest_commit(&self) -> Option<PgTimestamp> {
        first_commit(&self.batch)
    }

    /// Takes the window out; records behind the cut stay, in `empty`.
    ///
    /// `open` is the open transaction's position, used for a cut in its middle.
    pub fn take(
        &mut self,
        cut: Cut,
        open: Option<TransactionPosition>,
        mut empty: RecordBatch,
        now: Instant,
    ) -> Taken {
        let records = self.records_before(cut);
        if cut == Cut::Middle {
            self.boundary.position = open.or(self.boundary.position);
        }
        self.batch.move_tail(records, &mut empty);
        self.boundary_records = 0;
        self.opened_at = (!empty.is_empty()).then_some(now);
        let first_behind = self.parks.partition_point(|(at, _)| *at <= records);
        let parks_behind = self.parks.split_off(first_behind);
        let parks_behind = parks_behind
            .into_iter()
            .map(|(at, key)| (at - records, key));
        let parks = std::mem::replace(&mut self.parks, parks_behind.collect());
        let behind = self.suspects.split_off(&records);
        let behind = behind
            .into_iter()
            .map(|(i, verdict)| (i - records, verdict));
        Taken {
            parks,
            suspects: std::mem::replace(&mut self.suspects, behind.collect()),
            batch: std::mem::replace(&mut self.batch, empty),
            progress: self.boundary,
        }
    }

    /// Whether a record before the cut can't be published as it is, or none behind it can.
    pub fn has_suspects(&self, cut: Cut) -> bool {
        if !self.parks.is_empty() {
            return true;
        }
        let first = self.suspects.first_key_value();
        first.is_some_and(|(index, _)| *index < self.records_before(cut))
    }

    /// Whether an event that is larger than that waits to be let into the topic.
    pub fn awaits_larger(&self, topic: &str, max_bytes: usize) -> bool {
        let open = self
            .suspects
            .iter()
            .filter(|(_, verdict)| verdict.is_none());
        let mut records = open.filter_map(|(index, _)| self.batch.get(*index));
        records.any(|record| record.topic == topic && record.bytes() > max_bytes)
    }

    fn records_before(&self, cut: Cut) -> usize {
        match cut {
            Cut::Boundary => self.boundary_records,
            Cut::Middle => self.batch.len(),
        }
    }
}

/// A window that was taken out.
pub(crate) struct Taken {
    pub batch: RecordBatch,
    pub suspects: BTreeMap<usize, Option<Verdict>>,
    pub parks: Vec<(usize, ParkedKey)>,
    pub progress: Progress,
}

/// Commit time of the first record that comes from the stream: what is published beside it has none.
pub(crate) fn first_commit(batch: &RecordBatch) -> Option<PgTimestamp> {
    let mut streamed = batch.iter().filter(|record| record.xid != 0);
    streamed.next().map(|record| record.commit_time)
}
