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
}

impl Bug {
    /// Each of them.
    pub const ALL: [Self; 15] = [
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
        }
    }

    /// The bug of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}
