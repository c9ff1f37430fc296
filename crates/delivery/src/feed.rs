//! Feeds: rows that are published besides the stream, in an order of their own.

use pgoutput::{PgTimestamp, Tuple};
use serde::{Deserialize, Serialize};

use envelope::TableId;

/// A feed that is under way. It goes on, before the stream does, behind row `done`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedProgress {
    /// The request: names its rows.
    pub request: String,
    /// Ordinal of the last row that was dealt with; 0 before the first.
    pub done: u64,
}

/// A row of a feed, as its table has it now.
#[derive(Debug, Clone, Copy)]
pub struct FedRow<'a> {
    /// The table.
    pub table: TableId,
    /// Its place in the feed, counted from 1. Rows that have vanished leave gaps.
    pub ordinal: u64,
    /// When it was read, by the server's clock. When it was committed is not known any more, and
    /// a topic's retention goes by the time of its records.
    pub commit_time: PgTimestamp,
    /// Its columns, in the order of the relation that was announced before.
    pub tuple: Tuple<'a>,
}
