//! What is fixed for a session.

use std::time::Duration;

use crate::{Coverage, Fingerprint, Identity};

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
