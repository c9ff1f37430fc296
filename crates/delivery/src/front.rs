//! The only place that decides how far the slot may be confirmed.

use std::fmt;

use pgoutput::Lsn;

/// An LSN that may be sent to Postgres as flushed. Only [`Front`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfirmedLsn(Lsn);

impl ConfirmedLsn {
    /// The LSN to report.
    pub fn lsn(self) -> Lsn {
        self.0
    }
}

impl fmt::Display for ConfirmedLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Combines what is recorded in a committed checkpoint with what the publication check covers.
///
/// The second bound exists because pgoutput resolves the publication as of each change, and a
/// server may merely skip a missing one (PostgreSQL 18, `LoadPublications` in `pgoutput.c`): WAL
/// is only confirmed once a check made later found the publication intact.
#[derive(Debug)]
pub struct Front {
    recorded: Lsn,
    verified: Lsn,
    confirmed: ConfirmedLsn,
}

impl Front {
    /// Starts from the LSN that the checkpoint read at start already covers.
    pub fn new(recorded: Lsn, verified: Lsn) -> Self {
        Self {
            recorded,
            verified,
            confirmed: ConfirmedLsn(Lsn::INVALID),
        }
    }

    /// A checkpoint that covers everything up to `lsn` is committed.
    pub fn record(&mut self, lsn: Lsn) {
        self.recorded = self.recorded.max(lsn);
    }

    /// The publication was found intact by a check begun when the server's WAL ended at `lsn`.
    pub fn verify(&mut self, lsn: Lsn) {
        self.verified = self.verified.max(lsn);
    }

    /// What is recorded as durable.
    pub fn recorded(&self) -> Lsn {
        self.recorded
    }

    /// The last LSN given out.
    pub fn confirmed(&self) -> ConfirmedLsn {
        self.confirmed
    }

    /// A newly confirmable LSN, each once, ever growing. From `held` on, rows are still to be
    /// written back.
    pub fn poll(&mut self, held: Option<Lsn>) -> Option<ConfirmedLsn> {
        let reach = self.recorded.min(self.verified);
        let reach = ConfirmedLsn(held.map_or(reach, |held| reach.min(held)));
        if reach <= self.confirmed {
            return None;
        }
        self.confirmed = reach;
        Some(reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_the_lesser_of_recorded_and_verified() {
        let mut front = Front::new(Lsn::from(5), Lsn::from(3));
        assert_eq!(front.poll(None), Some(ConfirmedLsn(Lsn::from(3))));
        front.record(Lsn::from(9));
        assert_eq!(front.poll(None), None);
        front.verify(Lsn::from(7));
        assert_eq!(front.poll(None), Some(ConfirmedLsn(Lsn::from(7))));
        assert_eq!(front.poll(None), None);
    }

    #[test]
    fn waits_for_what_is_written_back() {
        let mut front = Front::new(Lsn::from(9), Lsn::from(9));
        assert_eq!(
            front.poll(Some(Lsn::from(4))),
            Some(ConfirmedLsn(Lsn::from(4)))
        );
        assert_eq!(front.poll(Some(Lsn::from(4))), None);
        assert_eq!(front.poll(None), Some(ConfirmedLsn(Lsn::from(9))));
    }

    #[test]
    fn never_goes_back() {
        let mut front = Front::new(Lsn::from(5), Lsn::from(5));
        assert!(front.poll(None).is_some());
        front.record(Lsn::from(1));
        front.verify(Lsn::from(1));
        assert_eq!(front.poll(None), None);
        assert_eq!(front.confirmed(), ConfirmedLsn(Lsn::from(5)));
    }
}
