//! What an audit has found.

use serde::Serialize;

use crate::requests::Request;

/// Findings of a kind that are named; the rest is counted.
pub(super) const NAMED: u64 = 10_000;

/// The whole of it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The pipeline.
    pub pipeline: String,
    /// Rows of events since then.
    pub since: String,
    /// Rows of events before that.
    pub until: String,
    /// Whether the relay was known to be past all of these rows.
    pub settled: bool,
    /// The tables.
    pub tables: Vec<TableCount>,
    /// Events and dead letters that were looked at.
    pub records: RecordCount,
    /// How many findings there are of each kind.
    pub found: Counts,
    /// What is no finding.
    pub passed_over: PassedOver,
    /// The findings, up to 10,000 of each kind.
    pub findings: Vec<Finding>,
    /// What operators have asked for in this time.
    pub requests: Vec<Request>,
    /// What must be known to read it.
    pub notes: Vec<String>,
}

/// Rows of a table.
#[derive(Debug, Default, Clone, Serialize)]
pub struct TableCount {
    /// Schema and name.
    pub table: String,
    /// Rows of the time.
    pub rows: u64,
    /// Rows without a time or an id, which were not compared.
    pub untold: u64,
}

/// Records that were read.
#[derive(Debug, Default, Clone, Serialize)]
pub struct RecordCount {
    /// Records of event topics.
    pub events: u64,
    /// Records of event topics that no relay wrote: without the header `eventId`.
    pub foreign: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

/// Findings by kind.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Rows whose event is nowhere.
    pub missing: u64,
    /// Events that stand more often in the topics than was asked for.
    pub doubled: u64,
    /// Records that are not what their row becomes.
    pub altered: u64,
    /// Rows whose state is not what the topics say.
    pub state: u64,
    /// Events of no row.
    pub without_row: u64,
}

impl Counts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.missing + self.doubled + self.altered + self.state + self.without_row
    }

    fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Missing => &mut self.missing,
            Kind::Doubled => &mut self.doubled,
            Kind::Altered => &mut self.altered,
            Kind::State => &mut self.state,
            Kind::WithoutRow => &mut self.without_row,
        }
    }
}

/// What was seen and needs no person.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// Rows that the relay may not have come to yet.
    pub waiting: u64,
    /// Rows whose event is nowhere, and which are older than their topic keeps.
    pub expired: u64,
    /// Events without a row, which retention may have removed.
    pub pruned: u64,
    /// Events without a row, which others may have published.
    pub of_others: u64,
    /// Events that were published again on request.
    pub replayed: u64,
}

/// What is wrong with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Its row was committed and it is nowhere.
    Missing,
    /// It stands in the topics too often.
    Doubled,
    /// It is not what its row becomes.
    Altered,
    /// Its row's state is not what the topics say.
    State,
    /// There is no row, though nothing should have removed it.
    WithoutRow,
}

impl Kind {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "MISSING",
            Self::Doubled => "DOUBLED",
            Self::Altered => "ALTERED",
            Self::State => "STATE",
            Self::WithoutRow => "WITHOUT-ROW",
        }
    }
}

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The table of the row, if there is one.
    pub table: Option<String>,
    /// The event's id.
    pub event_id: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// In words.
    pub detail: String,
    /// The records that it is about, `topic/partition:offset`.
    pub places: Vec<Place>,
}

/// Where a record is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// `topic/partition:offset`.
    pub place: String,
    /// The header `position`.
    pub position: String,
    /// The header `replay`.
    pub replay: Option<String>,
}

impl Report {
    pub(super) fn add(&mut self, finding: Finding) {
        let count = self.found.of(finding.kind);
        *count += 1;
        if *count <= NAMED {
            self.findings.push(finding);
        }
    }
}
