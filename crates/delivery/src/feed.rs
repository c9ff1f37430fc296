//! Rows that are published beside the stream: at the first start, by a repair, on request.

use envelope::TableId;
use pgoutput::{PgTimestamp, Tuple};
use serde::{Deserialize, Serialize};

/// A feed in the checkpoint: from its beginning until its list of rows is deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedProgress {
    /// The request whose rows are published.
    pub request: String,
    /// How many rows its list has: their ordinals are 1 to this, without a gap.
    pub rows: u64,
    /// How far it has got.
    #[serde(flatten)]
    pub fed: Fed,
}

impl FeedProgress {
    /// Every row is published.
    pub fn is_published(&self) -> bool {
        self.fed.done >= self.rows
    }

    /// Every row is published, and its table has been told.
    pub fn is_complete(&self) -> bool {
        self.is_published() && self.fed.marked >= self.rows
    }
}

/// How far a feed has got. The stream waits until every row is published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fed {
    /// Up to this ordinal rows are published.
    pub done: u64,
    /// Up to this ordinal the tables have been told. A feed is not streamed again: the rows between
    /// this one and the last one published are told again by the next session.
    pub marked: u64,
    /// The request is a row of the control table, which the stream has not passed yet.
    pub controlled: bool,
}

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
