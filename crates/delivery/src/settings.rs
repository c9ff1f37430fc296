//! What is fixed for a session.

use std::time::Duration;

use envelope::TableId;
use pgoutput::PgTimestamp;

use crate::{Coverage, Fingerprint, Identity, WriteBack};

/// Where the checkpoint is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recording {
    /// In the same Kafka transaction as the events: exactly once.
    InTransaction,
    /// In its own transaction, beside the events and after them: at least once.
    Beside,
    /// Nowhere: only the slot remembers.
    Nowhere,
}

impl Settings {
    /// How failures of a table are dealt with.
    pub(crate) fn policy(&self, table: TableId) -> Option<&TablePolicy> {
        self.tables.get(usize::from(table.0))
    }

    /// Whether dead letters go to this topic.
    pub(crate) fn is_dead_letter_topic(&self, topic: &str) -> bool {
        let mut tables = self.tables.iter();
        tables.any(|table| table.dead_letter_topic == topic)
    }

    /// Whether any table is told of its rows.
    pub(crate) fn writes_back(&self) -> bool {
        let mut tables = self.tables.iter();
        tables.any(|table| table.write_back != WriteBack::Off)
    }
}

/// What happens behind an event that is dead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDeadLetter {
    /// Later events go on.
    #[default]
    Continue,
    /// Later events of the same key follow it to the dead letters, until the key is released.
    ParkKey,
    /// Nothing is dead-lettered: the pipeline stops before it.
    Halt,
}

/// How failures of one table are dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePolicy {
    /// Where its dead letters go.
    pub dead_letter_topic: String,
    /// What happens behind them.
    pub on_dead_letter: OnDeadLetter,
    /// What its rows are told.
    pub write_back: WriteBack,
}

/// Fixed for a session.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the checkpoint is recorded.
    pub recording: Recording,
    /// Windows in flight at most; with transactions, the size of the producer ring.
    pub producers: usize,
    /// Events after which a window closes at the next transaction boundary.
    pub max_events: usize,
    /// Bytes after which a window closes, inside a transaction if it must.
    pub max_bytes: usize,
    /// How long a window stays open under load while a producer is free.
    pub max_wait: Duration,
    /// Largest event: key, value and headers.
    pub event_max_bytes: usize,
    /// Of each table, in the order of their specs.
    pub tables: Vec<TablePolicy>,
    /// Largest dead letter; a larger event is only described.
    pub dead_letter_max_bytes: usize,
    /// More dead letters in a minute halt the pipeline.
    pub dead_letters_per_minute: usize,
    /// More parked keys halt the pipeline.
    pub max_parked_keys: usize,
    /// Rows whose outcome is being written back, at most.
    pub max_pending_marks: usize,
    /// The time of day when the session begins.
    pub wall_clock: PgTimestamp,
    /// How often progress without events is recorded.
    pub checkpoint_interval: Duration,
    /// For the checkpoint record.
    pub identity: Identity,
    /// For the checkpoint record.
    pub fingerprint: Fingerprint,
    /// For the checkpoint record.
    pub coverage: Coverage,
    /// For the checkpoint record.
    pub transactional_id_prefix: String,
    /// For the checkpoint record.
    pub relay_version: String,
}
