//! What is noted of a row, and of a record.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::content::{Content, Dated};

/// Something that is known of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Entry {
    Row(Row),
    Sighting(Sighting),
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// Index of its table in the configuration.
    pub table: u16,
    pub id: String,
    pub event_type: String,
    pub state: State,
    /// The time of the event, milliseconds since 1970; `None` if its table has none.
    pub at_ms: Option<i64>,
    /// What it becomes.
    pub mapped: Mapped,
}

/// What the mapping makes of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mapped {
    Event {
        topic: String,
        content: Content,
        dated: Dated,
    },
    /// It can't become an event, for this reason.
    Nothing(String),
}

/// What a row says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    Pending,
    Sent,
    Failed,
    /// No state is written back, or it is none of ours.
    Untold,
}

impl State {
    pub fn read(text: Option<&str>) -> Self {
        match text {
            Some("PENDING") => Self::Pending,
            Some("SENT") => Self::Sent,
            Some("FAILED") => Self::Failed,
            Some(_) | None => Self::Untold,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Sent => "SENT",
            Self::Failed => "FAILED",
            Self::Untold => "-",
        }
    }
}

/// A record of an event, dead or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sighting {
    pub id: String,
    pub event_type: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// As its header says; empty without one.
    pub position: String,
    /// The record's time, milliseconds since 1970.
    pub at_ms: i64,
    /// The event's time where the record tells it, else the record's.
    pub occurred_ms: i64,
    /// The request by which it was published again; or what a header of the row's own says, if there
    /// is no such request.
    pub replay: Option<String>,
    pub what: What,
    /// Without that header. `None` if it only describes the event.
    pub content: Option<Content>,
    /// With that header, if there is one.
    pub whole: Option<Content>,
    /// Whether an event without a time of its own has that of the record.
    pub is_dated_by_record: bool,
}

/// What a record is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// An event in its topic.
    Event,
    /// A dead letter.
    Letter {
        /// Where the event was to go.
        to: String,
        outcome: Outcome,
    },
}

/// What has become of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    Open,
    Replayed,
    Dropped,
}

impl Sighting {
    /// A header that names no request is the row's own.
    pub fn require_request(&mut self, requests: &HashSet<String>) {
        let is_request = |named: &String| requests.contains(named);
        if self.replay.as_ref().is_some_and(|named| !is_request(named)) {
            self.replay = None;
            self.content = self.whole.take();
        }
    }

    /// As operators name it.
    pub fn place(&self) -> String {
        format!("{}/{}:{}", self.topic, self.partition, self.offset)
    }
}
