//! What stands in the log, in the order of commit records.

use std::time::Duration;

use pgoutput::{Lsn, PgTimestamp};

use super::{Demand, Event, Schema};

/// One change of a transaction, at the LSN of its WAL record, which others may share.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Of the record.
    pub lsn: Lsn,
    /// What it says.
    pub change: Change,
}

/// What a transaction did.
#[derive(Debug, Clone)]
pub enum Change {
    /// A row of the outbox.
    Event(Event),
    /// A row of the control table.
    Control(Demand),
    /// A row of a published table that is not mapped.
    Unmapped,
    /// `pg_logical_emit_message` with `transactional`.
    Message,
    /// TRUNCATE of the table that is not mapped.
    Truncate,
}

/// A committed transaction.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Its id.
    pub xid: u32,
    /// Start of the commit record.
    pub commit_lsn: Lsn,
    /// First byte after it.
    pub end_lsn: Lsn,
    /// When, by a clock that may be turned back.
    pub commit_time: PgTimestamp,
    /// It was replicated from elsewhere.
    pub has_origin: bool,
    /// When statements see its rows.
    pub visible_at: Duration,
    /// In order.
    pub changes: Vec<Logged>,
}

/// What the stream tells of, at its place.
#[derive(Debug, Clone)]
pub enum Item {
    /// A transaction, at its commit record.
    Transaction(Transaction),
    /// A logical message outside transactions.
    Message {
        /// Its own.
        lsn: Lsn,
    },
}

impl Item {
    /// Where it stands: a walsender that starts after this does not send it
    /// (`SnapBuildXactNeedsSkip` in `snapbuild.c`).
    pub fn lsn(&self) -> Lsn {
        match self {
            Self::Transaction(transaction) => transaction.commit_lsn,
            Self::Message { lsn } => *lsn,
        }
    }

    /// Where everything of it has been written.
    pub fn end(&self) -> Lsn {
        match self {
            Self::Transaction(transaction) => transaction.end_lsn,
            Self::Message { lsn } => *lsn,
        }
    }
}

/// The log of one server. Aborted transactions take up room in it and appear nowhere.
#[derive(Debug)]
pub struct History {
    /// In the order of their LSNs.
    pub items: Vec<Item>,
    /// The outbox through time.
    pub schema: Schema,
    end: Lsn,
}

impl History {
    /// A young cluster.
    pub fn new() -> Self {
        Self {
            items: Vec::new(),
            schema: Schema::new(),
            end: Lsn::from(0x0100_0028),
        }
    }

    /// End of the flushed WAL; everything written is flushed.
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// Writes a record of `bytes`; returns where it starts.
    pub fn append(&mut self, bytes: u64) -> Lsn {
        let start = self.end;
        self.end = Lsn::from(start.as_u64() + bytes);
        start
    }

    /// Where the log may end on a standby that has not received all of it, not before `least`.
    pub fn ends_from(&self, least: Lsn) -> Vec<Lsn> {
        let ends = self.items.iter().map(Item::end).chain([self.end]);
        ends.filter(|end| *end >= least).collect()
    }

    /// A standby that received the log up to `at` is promoted: it goes on from there.
    pub fn branch_off(&mut self, at: Lsn) {
        self.items.retain(|item| item.end() <= at);
        self.end = at;
    }

    /// The first item that a walsender sends that starts at `from`.
    pub fn first_from(&self, from: Lsn) -> usize {
        self.items.partition_point(|item| item.lsn() < from)
    }
}
