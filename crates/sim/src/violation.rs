//! Breaches of the contracts.

use std::time::Duration;

use pgoutput::{Lsn, Position};

/// What a run must not show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// An event never reached its topic.
    #[error("lost: the event at {0}")]
    Lost(Position),
    /// A consumer sees an event more often than the mode allows.
    #[error("duplicated: the event at {position} is there {copies} times")]
    Duplicated {
        /// The event.
        position: Position,
        /// How often.
        copies: usize,
    },
    /// An event stands behind a later one in its partition.
    #[error("misordered: the event at {late} stands behind the one at {early}")]
    Misordered {
        /// Stands too far behind.
        late: Position,
        /// Stands too early.
        early: Position,
    },
    /// A record of no committed event.
    #[error("phantom: a record with event id {0:?} that nothing committed wrote")]
    Phantom(String),
    /// A record that differs from what its row says.
    #[error("altered: the record of the event at {position} has another {part}")]
    Altered {
        /// The event.
        position: Position,
        /// What differs.
        part: &'static str,
    },
    /// A source transaction that fits in a window is in more than one Kafka transaction.
    #[error("torn: the transaction at {0} fits in a window and is split")]
    Torn(Lsn),
    /// The slot was confirmed past events that are not durable.
    #[error("confirmed {confirmed}, but the event at {missing} is not durable")]
    ConfirmedUndelivered {
        /// What was reported as flushed.
        confirmed: Lsn,
        /// The first event that is missing.
        missing: Position,
    },
    /// A committed checkpoint covers an event that is not durable.
    #[error(
        "a checkpoint up to {recorded} was committed, but the event at {missing} is not durable"
    )]
    RecordedUndelivered {
        /// How far the checkpoint reaches.
        recorded: String,
        /// The first event that is missing.
        missing: Position,
    },
    /// The slot was confirmed beyond every committed checkpoint.
    #[error("confirmed {confirmed}, but the committed checkpoints reach {checkpoint} only")]
    ConfirmedUnrecorded {
        /// What was reported as flushed.
        confirmed: Lsn,
        /// What the best checkpoint covers.
        checkpoint: Lsn,
    },
    /// The slot was confirmed beyond what a look at the publication covers.
    #[error("confirmed {confirmed}, but the publication was looked at up to {verified} only")]
    ConfirmedUnverified {
        /// What was reported as flushed.
        confirmed: Lsn,
        /// The newest look.
        verified: Lsn,
    },
    /// A session reported less than before.
    #[error("confirmed {confirmed} after {before}")]
    ConfirmedBack {
        /// What was reported as flushed.
        confirmed: Lsn,
        /// And earlier.
        before: Lsn,
    },
    /// A committed checkpoint covers less than one before it.
    #[error("a checkpoint at {now} was committed after one at {before}")]
    CheckpointBack {
        /// The newer.
        now: String,
        /// The older.
        before: String,
    },
    /// More is held than the configuration allows.
    #[error("memory: {held} bytes of records are held, {allowed} allowed")]
    Memory {
        /// At least.
        held: usize,
        /// At most.
        allowed: usize,
    },
    /// A dead letter of a kind for which there is no cause.
    #[error("misjudged: the event at {position} is dead as {class}")]
    Misjudged {
        /// The event.
        position: Position,
        /// As its dead letter says.
        class: String,
    },
    /// A dead letter was resolved by nobody's request.
    #[error("unasked: the dead letter of {position} was resolved for request {request}")]
    Unasked {
        /// The event.
        position: Position,
        /// As the resolution says.
        request: String,
    },
    /// A dead letter was resolved twice.
    #[error("served twice: the dead letter of {position}")]
    ServedTwice {
        /// The event.
        position: Position,
    },
    /// A request was passed over.
    #[error("unserved: request {request} left the dead letter of {position}")]
    Unserved {
        /// The event.
        position: Position,
        /// The request.
        request: String,
    },
    /// An event was published behind a dead one of its parked key.
    #[error("overtaken: the event at {by} was published while that at {parked} is dead")]
    Overtaken {
        /// The dead one.
        parked: Position,
        /// The later one.
        by: Position,
    },
    /// The slot was confirmed past a row that was not written back.
    #[error("confirmed {confirmed}, but the row of {row} does not say what became of it")]
    ConfirmedUntold {
        /// What was reported as flushed.
        confirmed: Lsn,
        /// The row.
        row: Position,
    },
    /// A row says something else than what has become of its event.
    #[error("the row of {position} is {found}, not {expected}")]
    RowWrong {
        /// The event.
        position: Position,
        /// What it says.
        found: String,
        /// What it has to say.
        expected: String,
    },
    /// The relay stopped although nothing is wrong.
    #[error("stopped without cause: {0}")]
    Stopped(String),
    /// Something that the relay needs is gone for good, and it does not say so.
    #[error("no stop, though this happened: {0}")]
    GapIgnored(&'static str),
    /// With nothing in flight, a keepalive's WAL end was not confirmed in time.
    #[error("not confirmed in time: a keepalive's {wal_end} (asked for a reply: {asked})")]
    Unanswered {
        /// What the keepalive said.
        wal_end: Lsn,
        /// Whether the server asked.
        asked: bool,
    },
    /// A fast shutdown of the server waits for the relay.
    #[error("a shutdown of the server was held up for {0:?}")]
    ShutdownHeldUp(Duration),
    /// A drain waits though nothing is under way.
    #[error("a drain waits for nothing")]
    DrainStuck,
    /// Faults have ceased, and yet not everything has arrived and been confirmed.
    #[error("no progress in calm: {0}")]
    Stuck(String),
    /// Production code panicked.
    #[error("panicked: {0}")]
    Panicked(String),
}

impl Violation {
    /// A name for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Lost(_) => "lost",
            Self::Duplicated { .. } => "duplicated",
            Self::Misordered { .. } => "misordered",
            Self::Phantom(_) => "phantom",
            Self::Altered { .. } => "altered",
            Self::Torn(_) => "torn",
            Self::ConfirmedUndelivered { .. } => "confirmed-undelivered",
            Self::ConfirmedUnrecorded { .. } => "confirmed-unrecorded",
            Self::ConfirmedUnverified { .. } => "confirmed-unverified",
            Self::ConfirmedBack { .. } => "confirmed-back",
            Self::CheckpointBack { .. } => "checkpoint-back",
            Self::Memory { .. } => "memory",
            Self::Misjudged { .. } => "misjudged",
            Self::Unasked { .. } => "unasked",
            Self::ServedTwice { .. } => "served-twice",
            Self::Unserved { .. } => "unserved",
            Self::Overtaken { .. } => "overtaken",
            Self::ConfirmedUntold { .. } => "confirmed-untold",
            Self::RowWrong { .. } => "row-wrong",
            Self::Stopped(_) => "stopped",
            Self::RecordedUndelivered { .. } => "recorded-undelivered",
            Self::GapIgnored(_) => "gap-ignored",
            Self::Unanswered { .. } => "unanswered",
            Self::ShutdownHeldUp(_) => "shutdown-held-up",
            Self::DrainStuck => "drain-stuck",
            Self::Stuck(_) => "stuck",
            Self::Panicked(_) => "panicked",
        }
    }
}
