//! The rules of the protocol, each of which can be taken away.

/// A rule that a broken relay does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The checkpoint is read after fencing. Broken: before it.
    FenceBeforeReading,
    /// Transactional ids are acquired one after another, the first window's first. Broken: all at
    /// the same time, so that of two relays each may end up with some of them.
    FenceInOrder,
    /// Relays share their transactional ids. Broken: each has its own, and fences nobody.
    Fence,
    /// A larger ring recorded in the checkpoint is fenced too. Broken: only the own ring.
    FenceRecordedRing,
    /// Only committed checkpoints count. Broken: the last record is taken.
    ReadCommitted,
    /// What the checkpoint covers is skipped. Broken: the slot alone decides.
    SkipByCheckpoint,
    /// The checkpoint is part of the window's transaction. Broken: written after its commit.
    CheckpointInTransaction,
    /// Confirmed is what is known to be committed. Broken: confirmed when the commit is asked for.
    ConfirmAfterCommit,
    /// A keepalive is confirmed through a checkpoint. Broken: at once, with windows in flight.
    ConfirmKeepaliveWhenRecorded,
    /// An unknown outcome ends the session. Broken: the window is repeated by a new producer.
    RereadAfterUnknown,
    /// An unknown outcome is no success. Broken: it is taken for one.
    UnknownIsNotSuccess,
    /// A window commits after the one before it. Broken: when its records are acknowledged.
    CommitInTurn,
    /// A window is produced after the one before is acknowledged. Broken: when a producer is free.
    ProduceAfterAcknowledged,
}

impl Rule {
    /// Each of them.
    pub const ALL: [Self; 13] = [
        Self::FenceBeforeReading,
        Self::FenceInOrder,
        Self::Fence,
        Self::FenceRecordedRing,
        Self::ReadCommitted,
        Self::SkipByCheckpoint,
        Self::CheckpointInTransaction,
        Self::ConfirmAfterCommit,
        Self::ConfirmKeepaliveWhenRecorded,
        Self::RereadAfterUnknown,
        Self::UnknownIsNotSuccess,
        Self::CommitInTurn,
        Self::ProduceAfterAcknowledged,
    ];
}
