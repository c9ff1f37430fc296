//! What must arrive: made from the log alone.

use std::collections::{BTreeMap, BTreeSet};

use pgoutput::{CommitLsn, Lsn, PgTimestamp, Position, Relation};

use envelope::dead_letter::Entry;

use super::burials::{Burial, Burials};
use super::demands::Demanded;
use crate::Violation;
use crate::broker::{Broker, Message, RecordId};
use crate::wal::{Change, Event, Flaw, History, Item, Transaction};

/// An event that must arrive.
#[derive(Debug)]
pub struct Expected {
    /// Its place, also in the order of all.
    pub position: Position,
    /// Its topic.
    pub topic: &'static str,
    /// Every durable record of it.
    pub records: Vec<RecordId>,
    /// Every durable dead letter of it.
    pub burials: Vec<Burial>,
    event: Event,
    shape: Relation,
    commit_time: PgTimestamp,
}

/// All committed events since the slot was made, in commit order.
#[derive(Debug, Default)]
pub struct Expectation {
    pub(super) events: Vec<Expected>,
    pub(super) burials: Burials,
    pub(super) demands: Vec<Demanded>,
    pub(super) void_demands: BTreeSet<String>,
    /// Requests before have been carried out.
    pub(super) first_unserved: usize,
    /// Each event is there once.
    pub(super) is_exact: bool,
    by_id: BTreeMap<String, usize>,
    /// Events of transactions that a promoted server does not have. They may have arrived.
    void: BTreeSet<String>,
    items_seen: usize,
    since: Option<Lsn>,
    /// Everything before is durable.
    first_missing: usize,
}

impl Expectation {
    /// Before anything is written.
    pub fn new(is_exact: bool) -> Self {
        Self {
            is_exact,
            ..Self::default()
        }
    }

    /// The slot exists from here on.
    pub fn start(&mut self, at: Lsn) {
        self.since.get_or_insert(at);
    }

    /// All events so far.
    pub fn events(&self) -> &[Expected] {
        &self.events
    }

    /// The first that is not durable.
    pub fn first_missing(&self) -> Option<&Expected> {
        self.events.get(self.first_missing)
    }

    /// Where an event stands in the order of all.
    pub fn rank(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// Whether any event need not arrive.
    pub fn has_void(&self) -> bool {
        !self.void.is_empty()
    }

    /// Whether an event need not arrive, and may.
    pub fn is_void(&self, id: &str) -> bool {
        self.void.contains(id)
    }

    /// The log was replaced by one that has nothing from `at` on.
    pub fn branch_off(&mut self, at: Lsn, history: &History) {
        let keep = self
            .events
            .partition_point(|event| event.position.commit_lsn.0 < at);
        for gone in self.events.drain(keep..) {
            let id = gone.event.id();
            self.by_id.remove(&id);
            self.void.insert(id);
        }
        self.burials.forget_from(keep);
        let keep_demands = self
            .demands
            .partition_point(|d| d.position.commit_lsn.0 < at);
        let gone = self.demands.drain(keep_demands..);
        self.void_demands.extend(gone.map(|gone| gone.demand.id()));
        self.first_unserved = self.first_unserved.min(keep_demands);
        self.first_missing = self.first_missing.min(keep);
        self.items_seen = self.items_seen.min(history.items.len());
    }

    /// More has been written.
    pub fn extend(&mut self, history: &History) {
        let Some(since) = self.since else {
            return;
        };
        while let Some(item) = history.items.get(self.items_seen) {
            self.items_seen += 1;
            match item {
                Item::Transaction(transaction) if transaction.commit_lsn >= since => {
                    self.expect(transaction, history);
                }
                Item::Transaction(_) | Item::Message { .. } => {}
            }
        }
    }

    /// A record is durable.
    pub fn arrived(&mut self, id: RecordId, broker: &Broker) -> Result<(), Violation> {
        let message = &broker.record(id).message;
        let event_id = message.header("eventId").unwrap_or_default();
        if self.is_void(event_id) {
            return Ok(());
        }
        let Some(rank) = self.rank(event_id) else {
            return Err(Violation::Phantom(event_id.to_owned()));
        };
        let expected = &mut self.events[rank];
        expected.records.push(id);
        expected.compare(message)?;
        self.advance();
        Ok(())
    }

    pub(super) fn advance(&mut self) {
        while let Some(event) = self.events.get(self.first_missing)
            && !(event.records.is_empty() && event.burials.is_empty())
        {
            self.first_missing += 1;
        }
    }

    fn expect(&mut self, transaction: &Transaction, history: &History) {
        for (index, logged) in transaction.changes.iter().enumerate() {
            let position = Position {
                commit_lsn: CommitLsn(transaction.commit_lsn),
                index: index as u64,
            };
            if let Change::Control(demand) = &logged.change {
                let demand = demand.clone();
                self.demands.push(Demanded { position, demand });
            }
            let Change::Event(event) = &logged.change else {
                continue;
            };
            self.by_id.insert(event.id(), self.events.len());
            self.events.push(Expected {
                position,
                topic: event.event_type,
                records: Vec::new(),
                burials: Vec::new(),
                event: event.clone(),
                shape: history.schema.shape(event.shape).clone(),
                commit_time: transaction.commit_time,
            });
        }
    }
}

impl Expected {
    /// The record's key.
    pub fn key(&self) -> String {
        self.event.key()
    }

    /// Its id.
    pub fn id(&self) -> String {
        self.event.id()
    }

    /// What is wrong with it.
    pub fn flaw(&self) -> Option<Flaw> {
        self.event.flaw
    }

    /// The dead letter holds what the row says; of one that is too large only a description, and
    /// of one without a type the payload.
    pub fn compare_dead(&self, entry: &Entry<'_>, message: &Message) -> Result<(), Violation> {
        let value = match self.event.flaw {
            Some(Flaw::Typeless) => self.event.payload(),
            Some(Flaw::Large | Flaw::Poisonous) | None => {
                self.event.envelope(&self.shape, self.commit_time)
            }
        };
        let may_be_stub = self.event.flaw == Some(Flaw::Large);
        let position = self.position.to_string();
        let is_whole = message.value.as_deref() == Some(value.as_bytes());
        let parts = [
            ("value", is_whole || may_be_stub && entry.is_stub),
            (
                "key",
                message.key.as_deref() == Some(self.event.key().as_bytes()),
            ),
            ("position", entry.position == position),
            ("table", entry.table == "public.outbox"),
        ];
        match parts.into_iter().find(|(_, is_same)| !is_same) {
            Some((part, _)) => Err(Violation::Altered {
                position: self.position,
                part,
            }),
            None => Ok(()),
        }
    }

    /// The record is what the row says.
    fn compare(&self, message: &Message) -> Result<(), Violation> {
        let envelope = self.event.envelope(&self.shape, self.commit_time);
        let commit_ms = self.commit_time.unix_micros().div_euclid(1000);
        let position = self.position.to_string();
        let parts = [
            (
                "value",
                message.value.as_deref() == Some(envelope.as_bytes()),
            ),
            (
                "key",
                message.key.as_deref() == Some(self.event.key().as_bytes()),
            ),
            ("timestamp", message.timestamp_ms == commit_ms),
            ("position", message.position() == Some(position.as_str())),
            ("type", message.header("type") == Some(self.topic)),
        ];
        match parts.into_iter().find(|(_, is_same)| !is_same) {
            Some((part, _)) => Err(Violation::Altered {
                position: self.position,
                part,
            }),
            None => Ok(()),
        }
    }
}
