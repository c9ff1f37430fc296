//! Rows that are published beside the stream: at the first start, by a repair, on request.

use envelope::TableId;
use pgoutput::{PgTimestamp, Tuple};
use serde::{Deserialize, Serialize};

/// How far a feed has got; in the checkpoint while it goes on. The stream waits for its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedProgress {
    /// The request whose rows are published.
    pub request: String,
    /// The last ordinal that has been published; [`FEED_FINISHED`] if all have been, and only the
    /// request itself is still to come by in the stream.
    pub done: u64,
    /// The request is a row of the control table, which the stream stands at.
    #[serde(default)]
    pub controlled: bool,
}

/// See [`FeedProgress::done`].
pub const FEED_FINISHED: u64 = u64::MAX;

/// A row of a feed.
#[derive(Debug, Clone, Copy)]
pub struct FedRow<'a> {
    /// The table.
    pub table: TableId,
    /// Its place in the feed, growing.
    pub ordinal: u64,
    /// The time that the record bears: of the request, so that it is the same each time.
    pub time: PgTimestamp,
    /// The columns, as in the relation announced last for this table.
    pub tuple: Tuple<'a>,
}
