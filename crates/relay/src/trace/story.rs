//! What is known of an event.

use delivery::Checkpoint;
use pgoutput::{Lsn, Position};
use serde::Serialize;

use crate::requests::Request;

/// The life of one event, as far as it is known.
#[derive(Debug, Default, Serialize)]
pub struct Story {
    /// The event's id.
    pub event_id: String,
    /// Its row, in each table that has one.
    pub rows: Vec<RowStory>,
    /// Its records in event topics, the oldest first.
    pub records: Vec<RecordStory>,
    /// Its dead letters, the oldest first.
    pub dead_letters: Vec<LetterStory>,
    /// The oldest checkpoint that is still there and has it.
    pub covering: Option<Covering>,
    /// What operators have asked for that concerns it.
    pub requests: Vec<Request>,
    /// What consumers know of it.
    pub consumers: Vec<ConsumerStory>,
    /// What was read of the topics.
    pub read: Read,
    /// What is not known, and why.
    pub notes: Vec<String>,
}

impl Story {
    /// Whether anything is known at all.
    pub fn is_known(&self) -> bool {
        let handled = |consumer: &ConsumerStory| !consumer.handled.is_empty();
        !self.rows.is_empty()
            || !self.records.is_empty()
            || !self.dead_letters.is_empty()
            || self.consumers.iter().any(handled)
    }
}

/// A row.
#[derive(Debug, Default, Clone, Serialize)]
pub struct RowStory {
    /// Schema and table.
    pub table: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// The transfer id.
    pub transfer_id: Option<String>,
    /// The time of the event.
    pub occurred_at: Option<String>,
    /// PENDING, SENT or FAILED.
    pub state: Option<String>,
    /// How often publishing was tried.
    pub attempts: Option<String>,
    /// Why it failed.
    pub last_error: Option<String>,
    /// Where its event goes, by the present configuration.
    pub topic: Option<String>,
    /// Why it can't become an event.
    pub unmappable: Option<String>,
    /// If it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// For the search.
    #[serde(skip)]
    pub at_ms: Option<i64>,
}

/// A record of an event topic.
#[derive(Debug, Default, Clone, Serialize)]
pub struct RecordStory {
    /// `topic/partition:offset`.
    pub place: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The record's time, which is that of the commit or of the request.
    pub at: String,
    /// The header `position`.
    pub position: String,
    /// Commit LSN of the transaction, for an event of the stream.
    pub commit_lsn: Option<String>,
    /// The row's number in its feed, for an event of a feed.
    pub feed_row: Option<u64>,
    /// The event's type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The request by which it was published again.
    pub replay: Option<String>,
    /// The record key, as text.
    pub key: Option<String>,
    /// Bytes of the value; `None` for a tombstone.
    pub value_bytes: Option<usize>,
    /// If it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A dead letter.
#[derive(Debug, Default, Clone, Serialize)]
pub struct LetterStory {
    /// `topic/partition:offset`.
    pub place: String,
    /// Why, as a code.
    pub class: String,
    /// Why, in words.
    pub reason: String,
    /// How often publishing was tried.
    pub attempts: u32,
    /// Where the event was to go.
    pub topic: String,
    /// Where its change stood in the stream.
    pub position: String,
    /// When publishing it failed first.
    pub first_failure: String,
    /// When it failed last.
    pub last_failure: String,
    /// Whether it only describes the event.
    pub is_stub: bool,
    /// The request that has put it there again.
    pub request: Option<String>,
    /// What has become of it.
    pub resolution: Option<ResolutionStory>,
    /// If it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What has become of a dead letter.
#[derive(Debug, Clone, Serialize)]
pub struct ResolutionStory {
    /// `replayed` or `dropped`.
    pub kind: String,
    /// By which request.
    pub request: String,
}

/// A checkpoint that has the event.
#[derive(Debug, Clone, Serialize)]
pub struct Covering {
    /// The last transaction that it has.
    pub up_to: Option<String>,
    /// Whether that is the event's own transaction.
    pub is_own_transaction: bool,
    /// Id of that transaction.
    pub xid: Option<u32>,
    /// When that transaction was committed, microseconds since 1970.
    pub commit_time_us: Option<i64>,
    /// Timeline of the server.
    pub timeline: u32,
    /// What the ids of the relay's transactions begin with.
    pub transactional_id_prefix: Option<String>,
    /// How many of them there were.
    pub producers: usize,
    /// Version of the relay.
    pub relay_version: String,
    /// What the slot is confirmed up to, and whether that is beyond the event.
    pub slot_confirmed: Option<String>,
    /// Whether the slot is confirmed beyond the event's transaction.
    pub is_confirmed: Option<bool>,
}

impl Covering {
    pub(super) fn of(checkpoint: &Checkpoint, position: Position, confirmed: Option<Lsn>) -> Self {
        let last = checkpoint.position.as_ref();
        let is_own = last.is_some_and(|last| last.commit_lsn == position.commit_lsn);
        Self {
            up_to: last.map(|last| format!("{}:{}", last.commit_lsn, last.index)),
            is_own_transaction: is_own,
            xid: last.map(|last| last.xid),
            commit_time_us: last.map(|last| last.commit_time_us),
            timeline: checkpoint.identity.timeline,
            transactional_id_prefix: checkpoint.transactional_id_prefix.clone(),
            producers: checkpoint.producers,
            relay_version: checkpoint.relay_version.clone(),
            slot_confirmed: confirmed.map(|lsn| lsn.to_string()),
            is_confirmed: confirmed.map(|lsn| lsn > position.commit_lsn.0),
        }
    }
}

/// What a consumer's database knows.
#[derive(Debug, Default, Clone, Serialize)]
pub struct ConsumerStory {
    /// Host and database.
    pub database: String,
    /// Which consumers have handled it.
    pub handled: Vec<Handled>,
    /// Why that is not known.
    pub failure: Option<String>,
}

/// A consumer has handled the event.
#[derive(Debug, Clone, Serialize)]
pub struct Handled {
    /// The consumer.
    pub consumer: String,
    /// When; not known of consumers that store offsets.
    pub at: Option<String>,
    /// The record that its stored offset is beyond.
    pub place: Option<String>,
}

/// What was read of the topics.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Read {
    /// The topics; none: all that routing may use.
    pub topics: Vec<String>,
    /// Times that were read, milliseconds since 1970: from, and up to if not to the end.
    pub windows: Vec<(Option<i64>, Option<i64>)>,
    /// Records that were looked at.
    pub records: u64,
    /// Whether the bound on them was reached before the end.
    pub is_cut: bool,
}
