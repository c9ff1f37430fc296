//! What the state machine asks for.

use envelope::RecordBatch;

use crate::{
    Checkpoint, ConfirmedLsn, Exception, FeedProgress, Halt, Marks, MarksId, Request, WindowId,
};

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
        /// To be produced in the same transaction, too.
        exceptions: Vec<Exception>,
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
        /// To be recorded in the same transaction.
        exceptions: Vec<Exception>,
    },
    /// Ask the brokers whether a topic may be written to, then report `handle_answer`.
    Ask {
        /// The topic.
        topic: String,
    },
    /// Write outcomes to the rows' tables, then report `handle_written_back`, in order.
    WriteBack {
        /// Which.
        id: MarksId,
        /// The rows.
        marks: Marks,
    },
    /// Carry out what an operator asks for: read the dead letters that it names, hand each to
    /// `handle_redelivered` while `wants_more`, then report `handle_served`.
    Serve {
        /// What is asked for.
        request: Request,
    },
    /// Read a feed behind `marked`: hand its rows to `handle_fed_row` while `wants_more`, then report
    /// `handle_feed_end`.
    Feed {
        /// How far it has got.
        feed: FeedProgress,
    },
    /// Delete the list of a feed, then report `handle_discarded`.
    Discard {
        /// The request whose rows they were.
        request: String,
    },
    /// End the session.
    Stop(Halt),
    /// Report this LSN to the server as flushed.
    Confirm(ConfirmedLsn),
}
