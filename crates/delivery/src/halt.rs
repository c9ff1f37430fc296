//! Why a pipeline cannot go on.

use envelope::CompileError;
use pgoutput::{CommitLsn, Lsn, Position};

use crate::{Class, Fingerprint, Verdict};

/// A condition that stops the pipeline; the slot holds and nothing is lost.
///
/// [`code`](Self::code) is stable and documented with its remedy.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The slot does not exist, though a checkpoint says that it did.
    #[error(
        "replication slot {slot:?} does not exist, but a checkpoint records it up to {confirmed_up_to}"
    )]
    SlotMissing {
        /// The slot.
        slot: String,
        /// How far the checkpoint reaches.
        confirmed_up_to: Lsn,
    },
    /// The server has removed WAL or rows that the slot needed.
    #[error("replication slot {slot:?} is lost: {reason}")]
    SlotLost {
        /// The slot.
        slot: String,
        /// The server's reason.
        reason: String,
    },
    /// The slot is not a pgoutput slot of this database.
    #[error("replication slot {slot:?} is not usable: {reason}")]
    SlotForeign {
        /// The slot.
        slot: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The slot was advanced by somebody else, or the checkpoint is older than the slot.
    #[error(
        "replication slot {slot:?} is confirmed up to {slot_confirmed}, beyond the checkpoint's {confirmed_up_to}: the events between are not known to be in Kafka"
    )]
    SlotAhead {
        /// The slot.
        slot: String,
        /// The slot's `confirmed_flush_lsn`.
        slot_confirmed: Lsn,
        /// How far the checkpoint reaches.
        confirmed_up_to: Lsn,
    },
    /// There is a slot, but no checkpoint: it was lost, or the slot is somebody else's.
    #[error("replication slot {slot:?} exists, but the checkpoint topic has no record of it")]
    SlotWithoutRecord {
        /// The slot.
        slot: String,
    },
    /// The slot was made, but the rows that were to come before its stream are not known.
    #[error(
        "replication slot {slot:?} was made by a start that did not come to its end: the rows of its backfill are not known"
    )]
    BackfillUnfinished {
        /// The slot.
        slot: String,
    },
    /// A repair was begun and did not come to its end.
    #[error("a repair of replication slot {slot:?} was begun and did not come to its end")]
    RepairUnfinished {
        /// The slot.
        slot: String,
    },
    /// The checkpoint was written for another cluster, database or slot.
    #[error("the checkpoint belongs to {recorded}, but the server is {found}")]
    ForeignSystem {
        /// From the checkpoint.
        recorded: String,
        /// From the server.
        found: String,
    },
    /// The checkpoint's timeline is not in the server's history.
    #[error(
        "the checkpoint is on timeline {recorded}, which is not in the history of the server's timeline {found}"
    )]
    TimelineLost {
        /// From the checkpoint.
        recorded: u32,
        /// From the server.
        found: u32,
    },
    /// The server's WAL ends before the checkpoint: it was restored from a backup.
    #[error(
        "the server's WAL ends at {wal_end}, before the checkpoint's {confirmed_up_to}: it looks restored from a backup"
    )]
    WalBehind {
        /// End of the server's WAL.
        wal_end: Lsn,
        /// How far the checkpoint reaches.
        confirmed_up_to: Lsn,
    },
    /// The stream passed the checkpoint's transaction without showing it.
    #[error(
        "the checkpoint's transaction at {commit_lsn} did not reappear in the stream, as the slot says it must"
    )]
    TransactionMissing {
        /// The transaction's commit LSN.
        commit_lsn: CommitLsn,
    },
    /// Another transaction stands at the checkpoint's LSN.
    #[error(
        "the transaction at {commit_lsn} is not the one that the checkpoint names: xid {found} instead of {recorded}, or another commit time"
    )]
    TransactionForeign {
        /// The commit LSN.
        commit_lsn: CommitLsn,
        /// From the checkpoint.
        recorded: u32,
        /// From the stream.
        found: u32,
    },
    /// The publication changed while a transaction was published in part.
    #[error(
        "the publication or its options changed while the transaction at {commit_lsn} was published in part"
    )]
    FingerprintChanged {
        /// The half-published transaction.
        commit_lsn: CommitLsn,
    },
    /// The publication or a table in it is not the one of the checkpoint any more.
    #[error(
        "{change} since outboxd last streamed from it (accept with --accept-publication {token}{})",
        stale(.given.as_ref())
    )]
    CoverageChanged {
        /// What has changed.
        change: String,
        /// Of the coverage as it is now.
        token: Fingerprint,
        /// What the operator has accepted: another state.
        given: Option<Fingerprint>,
    },
    /// Parked keys, and dead letters whose rows may not say so, are not all there any more.
    #[error(
        "the checkpoint topic holds {found} parked keys and dead rows in partition 1, though the checkpoint counts {recorded} (accept with --accept-exceptions {token}{})",
        stale(.given.as_ref())
    )]
    ExceptionsLost {
        /// From the checkpoint.
        recorded: usize,
        /// From the topic.
        found: usize,
        /// Of this state.
        token: Fingerprint,
        /// What the operator has accepted: another state.
        given: Option<Fingerprint>,
    },
    /// A table's mapping does not fit its columns.
    #[error("table mapping does not fit")]
    Mapping(#[from] CompileError),
    /// An event can't be published, and its table's dead letters are not wanted.
    #[error("the event at {position} of {table} (id {id}) can't be published: {}", verdict.reason)]
    Refused {
        /// Where it is.
        position: Position,
        /// The table.
        table: String,
        /// The row's id, empty if it has none.
        id: String,
        /// Why.
        verdict: Box<Verdict>,
    },
    /// An event can't be published, and neither can its dead letter.
    #[error("the dead-letter topic {topic} can't be used: {reason}")]
    DeadLetterTopic {
        /// The topic.
        topic: String,
        /// Why.
        reason: String,
    },
    /// So many events can't be published that something else is wrong.
    #[error(
        "more than dead_letter.max_per_minute = {max_per_minute} events can't be published, the last of them because: {reason}"
    )]
    DeadLetterSurge {
        /// The bound.
        max_per_minute: usize,
        /// Why the last one can't be published.
        reason: String,
    },
    /// Too many keys are parked.
    #[error("more than park.max_keys = {max_keys} keys would be parked")]
    ParkedKeysFull {
        /// The bound.
        max_keys: usize,
    },
    /// The tables could not be told of their rows for long, and now can again.
    #[error("rows are left to be written back: the slot sends them again")]
    WriteBackBehind,
    /// The server sent messages in an order that the protocol does not allow.
    #[error("replication protocol violated: {0}")]
    Protocol(String),
}

fn stale(given: Option<&Fingerprint>) -> String {
    let tell = |token| format!("; the token given, {token}, is for another state of it");
    given.map(tell).unwrap_or_default()
}

impl Halt {
    /// The stable name of this condition.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SlotMissing { .. } => "slot-missing",
            Self::SlotLost { .. } => "slot-lost",
            Self::SlotForeign { .. } => "slot-foreign",
            Self::SlotAhead { .. } => "slot-ahead",
            Self::SlotWithoutRecord { .. } => "slot-without-record",
            Self::BackfillUnfinished { .. } => "backfill-unfinished",
            Self::RepairUnfinished { .. } => "repair-unfinished",
            Self::ForeignSystem { .. } => "foreign-system",
            Self::TimelineLost { .. } => "timeline-lost",
            Self::WalBehind { .. } => "wal-behind",
            Self::TransactionMissing { .. } => "transaction-missing",
            Self::TransactionForeign { .. } => "transaction-foreign",
            Self::FingerprintChanged { .. } => "fingerprint-changed",
            Self::CoverageChanged { .. } => "publication-changed",
            Self::ExceptionsLost { .. } => "exceptions-lost",
            Self::Mapping(_) => "mapping",
            Self::Refused { verdict, .. } => match verdict.class {
                Class::Mapping(_) | Class::Refused | Class::Parked => "unpublishable-event",
                Class::Encryption => "undecryptable-event",
                Class::TooLarge => "event-too-large",
                Class::TopicMissing => "topic-missing",
                Class::TopicDenied => "topic-denied",
            },
            Self::DeadLetterTopic { .. } => "dead-letter-topic",
            Self::DeadLetterSurge { .. } => "dead-letter-surge",
            Self::ParkedKeysFull { .. } => "parked-keys",
            Self::WriteBackBehind => "write-back-behind",
            Self::Protocol(_) => "protocol",
        }
    }
}
