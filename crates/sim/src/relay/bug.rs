//! Mistakes that a relay could make, to prove that the oracle would see them.

/// A planted bug. To add one: a variant, its name, and the line of the simulated relay that makes
/// the mistake, asking `Context::has`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Reports a window's LSN as flushed when the window is sent.
    ConfirmsOnSend,
    /// Reports a keepalive's WAL end as flushed with windows in flight.
    ConfirmsKeepalives,
    /// Reports an LSN as flushed before the checkpoint beside the events is committed.
    ConfirmsUnrecorded,
    /// Reports LSNs as flushed that no look at the publication covers.
    ConfirmsUnverified,
    /// Reads the checkpoint, and then fences.
    ReadsBeforeFencing,
    /// Fences only as many ids as it uses itself.
    FencesOwnRingOnly,
    /// Takes the first end of the checkpoint partition for its end.
    TrustsEarlyEnd,
    /// Does not skip what has been published.
    ForgetsPosition,
    /// Counts the changes of a transaction after a filter that another process does not have.
    CountsAfterFilter,
    /// Commits a window before the one before it is known to be committed.
    CommitsOutOfTurn,
    /// Commits a window in two transactions.
    CommitsInPieces,
    /// Writes the checkpoint outside the transaction.
    CheckpointsOutside,
    /// Takes a commit without an answer for a success.
    BelievesUnknownCommits,
    /// Takes a commit without an answer for a failure, and publishes again.
    RepeatsUnknownCommits,
    /// Reads on though told to wait.
    IgnoresBackpressure,
    /// Reports a commit's end as flushed when it is received.
    ConfirmsReceived,
    /// Does not hurry when a keepalive asks for a reply.
    IgnoresUrgency,
    /// Streams on though the server is shutting down.
    HoldsUpShutdowns,
    /// Takes a row for a repeated one if its LSN is not above all others.
    SkipsByRowLsn,
    /// Publishes a split transaction from its start again.
    ForgetsIndex,
    /// Takes a split transaction for a complete one.
    TakesPartsForWhole,
    /// Reads checkpoints of transactions that are open or aborted.
    ReadsUncommitted,
    /// Uses transactional ids that its successor does not fence.
    NamesProducersAnew,
    /// Sends records again under new sequence numbers when no answer came.
    RepeatsUnanswered,
    /// Sends refused records again behind later ones.
    ReordersRetries,
    /// Drops a window that was refused, and goes on.
    DropsFailedWindows,
    /// Makes a new slot in the place of a lost one.
    ReplacesLostSlots,
    /// Makes the slot anew though a checkpoint says that it was there.
    RecreatesMissingSlots,
    /// Goes on from a slot that somebody else has moved.
    TrustsForeignSlots,
    /// Takes over a slot of which there is no record.
    AdoptsAnySlot,
    /// Asks the server to start at the checkpoint rather than at the slot.
    StartsAtCheckpoint,
    /// Compares positions of different timelines.
    IgnoresTimelines,
    /// Updates rows of transactions that it does not see yet.
    WritesUnseen,
    /// Confirms rows that were not written back.
    ForgetsMarks,
    /// Records nothing of parked keys and dead rows.
    ForgetsExceptions,
    /// Publishes dead letters that were published from there before.
    ServesResolved,
    /// Publishes what the request itself has dead-lettered again.
    ServesOwnLetters,
    /// Looks for dead letters before their transactions are settled.
    ReadsUnsettled,
    /// Reports what is recorded as flushed, whatever rows are still to be written back.
    ConfirmsUntold,
    /// Confirms rows whose states no standby is known to have.
    LeavesStandbysBehind,
    /// Goes on though marks were dropped for being too many.
    DropsOverflow,
    /// Takes every row that was dealt with before for a published one.
    ForgetsDead,
    /// Takes a row for a published one though it may be a dead letter that is not remembered any more.
    ForgetsSettled,
    /// Forgets between sessions which keys are parked.
    ForgetsParked,
    /// Forgets between sessions which rows were published from their dead letters.
    ForgetsRevived,
    /// Lets a key go on before its parked events are published.
    ReleasesUnpublished,
    /// Passes requests over.
    ServesNothing,
    /// Takes a filter for all dead letters.
    MisreadsFilters,
    /// Does not learn from windows that were refused.
    TrustsProbes,
}

impl Bug {
    /// Each of them.
    pub const ALL: [Self; 49] = [
        Self::ConfirmsOnSend,
        Self::ConfirmsKeepalives,
        Self::ConfirmsUnrecorded,
        Self::ConfirmsUnverified,
        Self::ReadsBeforeFencing,
        Self::FencesOwnRingOnly,
        Self::TrustsEarlyEnd,
        Self::ForgetsPosition,
        Self::CountsAfterFilter,
        Self::CommitsOutOfTurn,
        Self::CommitsInPieces,
        Self::CheckpointsOutside,
        Self::BelievesUnknownCommits,
        Self::RepeatsUnknownCommits,
        Self::IgnoresBackpressure,
        Self::ConfirmsReceived,
        Self::IgnoresUrgency,
        Self::HoldsUpShutdowns,
        Self::SkipsByRowLsn,
        Self::ForgetsIndex,
        Self::TakesPartsForWhole,
        Self::ReadsUncommitted,
        Self::NamesProducersAnew,
        Self::RepeatsUnanswered,
        Self::ReordersRetries,
        Self::DropsFailedWindows,
        Self::ReplacesLostSlots,
        Self::RecreatesMissingSlots,
        Self::TrustsForeignSlots,
        Self::AdoptsAnySlot,
        Self::StartsAtCheckpoint,
        Self::IgnoresTimelines,
        Self::WritesUnseen,
        Self::ForgetsMarks,
        Self::ForgetsExceptions,
        Self::ServesResolved,
        Self::ServesOwnLetters,
        Self::ReadsUnsettled,
        Self::ConfirmsUntold,
        Self::LeavesStandbysBehind,
        Self::DropsOverflow,
        Self::ForgetsDead,
        Self::ForgetsSettled,
        Self::ForgetsParked,
        Self::ForgetsRevived,
        Self::ReleasesUnpublished,
        Self::ServesNothing,
        Self::MisreadsFilters,
        Self::TrustsProbes,
    ];

    /// As the command line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfirmsOnSend => "confirms-on-send",
            Self::ConfirmsKeepalives => "confirms-keepalives",
            Self::ConfirmsUnrecorded => "confirms-unrecorded",
            Self::ConfirmsUnverified => "confirms-unverified",
            Self::ReadsBeforeFencing => "reads-before-fencing",
            Self::FencesOwnRingOnly => "fences-own-ring-only",
            Self::TrustsEarlyEnd => "trusts-early-end",
            Self::ForgetsPosition => "forgets-position",
            Self::CountsAfterFilter => "counts-after-filter",
            Self::CommitsOutOfTurn => "commits-out-of-turn",
            Self::CommitsInPieces => "commits-in-pieces",
            Self::CheckpointsOutside => "checkpoints-outside",
            Self::BelievesUnknownCommits => "believes-unknown-commits",
            Self::RepeatsUnknownCommits => "repeats-unknown-commits",
            Self::IgnoresBackpressure => "ignores-backpressure",
            Self::ConfirmsReceived => "confirms-received",
            Self::IgnoresUrgency => "ignores-urgency",
            Self::HoldsUpShutdowns => "holds-up-shutdowns",
            Self::SkipsByRowLsn => "skips-by-row-lsn",
            Self::ForgetsIndex => "forgets-index",
            Self::TakesPartsForWhole => "takes-parts-for-whole",
            Self::ReadsUncommitted => "reads-uncommitted",
            Self::NamesProducersAnew => "names-producers-anew",
            Self::RepeatsUnanswered => "repeats-unanswered",
            Self::ReordersRetries => "reorders-retries",
            Self::DropsFailedWindows => "drops-failed-windows",
            Self::ReplacesLostSlots => "replaces-lost-slots",
            Self::RecreatesMissingSlots => "recreates-missing-slots",
            Self::TrustsForeignSlots => "trusts-foreign-slots",
            Self::AdoptsAnySlot => "adopts-any-slot",
            Self::StartsAtCheckpoint => "starts-at-checkpoint",
            Self::IgnoresTimelines => "ignores-timelines",
            Self::WritesUnseen => "writes-unseen",
            Self::ForgetsMarks => "forgets-marks",
            Self::ForgetsExceptions => "forgets-exceptions",
            Self::ServesResolved => "serves-resolved",
            Self::ServesOwnLetters => "serves-own-letters",
            Self::ReadsUnsettled => "reads-unsettled",
            Self::ConfirmsUntold => "confirms-untold",
            Self::LeavesStandbysBehind => "leaves-standbys-behind",
            Self::DropsOverflow => "drops-overflow",
            Self::ForgetsDead => "forgets-dead",
            Self::ForgetsSettled => "forgets-settled",
            Self::ForgetsParked => "forgets-parked",
            Self::ForgetsRevived => "forgets-revived",
            Self::ReleasesUnpublished => "releases-unpublished",
            Self::ServesNothing => "serves-nothing",
            Self::MisreadsFilters => "misreads-filters",
            Self::TrustsProbes => "trusts-probes",
        }
    }

    /// The bug of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}
