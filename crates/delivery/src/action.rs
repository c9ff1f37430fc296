//! What the state machine asks for.

use envelope::RecordBatch;

use crate::{Checkpoint, ConfirmedLsn, WindowId};

/// What the driver has to do.
#[derive(Debug)]
pub enum Action {
    /// Produce a window on producer `id % producers`, then report `handle_acknowledged`.
    Produce {
        /// The window.
        window: WindowId,
        /// Its records, possibly none.
        batch: RecordBatch,
        /// To be produced in the same transaction.
        checkpoint: Option<Checkpoint>,
    },
    /// Commit the transaction of a window, then report `handle_committed`.
    Commit {
        /// The window.
        window: WindowId,
    },
    /// Record a checkpoint beside the events, then report `handle_recorded`.
    Record {
        /// The record.
        checkpoint: Checkpoint,
    },
    /// Report this LSN to the server as flushed.
    Confirm(ConfirmedLsn),
}
