//! The state column of the outbox's rows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pgoutput::Lsn;

use super::{Server, State};
use crate::wal::{Change, History, Item};

/// What a row says of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    /// As it was inserted.
    Pending,
    /// Published.
    Sent,
    /// In the dead letters.
    Failed,
}

/// Which rows a statement touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// `state = 'PENDING'`
    Pending,
    /// `state <> 'SENT'`
    NotSent,
}

#[derive(Debug)]
struct Row {
    commit_lsn: Lsn,
    visible_at: Duration,
    state: RowState,
}

/// An update, to be undone when the log is cut before it.
#[derive(Debug)]
struct Update {
    lsn: Lsn,
    id: String,
    before: RowState,
}

/// The rows that are committed.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: BTreeMap<String, Row>,
    visible: BTreeMap<u32, Duration>,
    updates: Vec<Update>,
    /// Rows whose update was lost with a server, though the slot may have been confirmed since.
    forgotten: BTreeSet<String>,
    items_seen: usize,
    /// A lock is held on the table.
    blocked_until: Duration,
}

impl Rows {
    /// More has been committed.
    pub fn extend(&mut self, history: &History) {
        while let Some(item) = history.items.get(self.items_seen) {
            self.items_seen += 1;
            let Item::Transaction(transaction) = item else {
                continue;
            };
            self.visible.insert(transaction.xid, transaction.visible_at);
            for logged in &transaction.changes {
                if let Change::Event(event) = &logged.change {
                    let row = Row {
                        commit_lsn: transaction.commit_lsn,
                        visible_at: transaction.visible_at,
                        state: RowState::Pending,
                    };
                    self.rows.insert(event.id(), row);
                }
            }
        }
    }

    /// Everything that has not ended yet has.
    pub fn crash(&mut self) {
        self.visible
            .values_mut()
            .for_each(|at| *at = Duration::ZERO);
        let rows = self.rows.values_mut();
        rows.for_each(|row| row.visible_at = Duration::ZERO);
        self.blocked_until = Duration::ZERO;
    }

    /// Somebody else moves the slot: rows before may never be told.
    pub fn forget_before(&mut self, lsn: Lsn) {
        let skipped = self.rows.iter().filter(|(_, row)| row.commit_lsn < lsn);
        let pending = skipped.filter(|(_, row)| row.state == RowState::Pending);
        self.forgotten.extend(pending.map(|(id, _)| id.clone()));
    }

    /// The log was replaced by one that has nothing from `at` on. Whether rows whose states are lost
    /// with it `may` stay without them.
    pub fn branch_off(&mut self, at: Lsn, history: &History, may: bool) {
        while let Some(update) = self.updates.pop_if(|update| update.lsn >= at) {
            if let Some(row) = self.rows.get_mut(&update.id) {
                row.state = update.before;
                if may {
                    self.forgotten.insert(update.id);
                }
            }
        }
        self.rows.retain(|_, row| row.commit_lsn < at);
        self.items_seen = self.items_seen.min(history.items.len());
    }
}

impl Server {
    /// A row's state, if the row is there.
    pub fn row_state(&self, id: &str) -> Option<RowState> {
        self.rows.rows.get(id).map(|row| row.state)
    }

    /// Whether an update of this row was lost with a server.
    pub fn has_forgotten(&self, id: &str) -> bool {
        self.rows.forgotten.contains(id)
    }

    /// Somebody holds a lock on the table.
    pub fn block_updates(&mut self, until: Duration) {
        self.rows.blocked_until = until;
    }

    /// Whether a statement sees what these transactions have done.
    pub fn sees(&self, xids: &[u32], now: Duration) -> bool {
        let mut xids = xids.iter();
        xids.all(|xid| self.rows.visible.get(xid).is_none_or(|at| *at <= now))
    }

    /// UPDATE: `false` if it fails.
    pub fn update(
        &mut self,
        ids: &[String],
        to: RowState,
        condition: Condition,
        timeline: u32,
        now: Duration,
    ) -> bool {
        let is_other = timeline != self.timeline();
        if self.state == State::Down || is_other || now < self.rows.blocked_until {
            return false;
        }
        let lsn = self.history.end();
        let mut updated = 0;
        for id in ids {
            let row = self.rows.rows.get_mut(id);
            let Some(row) = row.filter(|row| row.visible_at <= now) else {
                continue;
            };
            let is_meant = match condition {
                Condition::Pending => row.state == RowState::Pending,
                Condition::NotSent => row.state != RowState::Sent,
            };
            if is_meant {
                updated += 1;
                let (id, before) = (id.clone(), row.state);
                self.rows.updates.push(Update { lsn, id, before });
                row.state = to;
            }
        }
        if updated > 0 {
            self.history.append(60 * updated);
        }
        true
    }
}
