//! Halts rather than send a healthy stream to the dead letters wholesale.

use std::time::{Duration, Instant};

use pgoutput::CommitLsn;

const MINUTE: Duration = Duration::from_secs(60);

/// Counts the dead letters of a minute.
#[derive(Debug, Clone, Default)]
pub(crate) struct Breaker {
    since: Option<Instant>,
    count: usize,
    /// The event at which it broke. It stays broken until that one has got through.
    broken_at: Option<CommitLsn>,
}

impl Breaker {
    /// Whether one more may be sent to the dead letters.
    pub fn admits(&mut self, at: CommitLsn, max_per_minute: usize, now: Instant) -> bool {
        if self.broken_at.is_some() {
            return false;
        }
        let since = self
            .since
            .filter(|since| now.duration_since(*since) < MINUTE);
        if since.is_none() {
            self.since = Some(now);
            self.count = 0;
        }
        if self.count < max_per_minute {
            self.count += 1;
            return true;
        }
        self.broken_at = Some(at);
        false
    }

    /// Everything up to `lsn` is durable.
    pub fn passed(&mut self, lsn: CommitLsn) {
        if self.broken_at.is_some_and(|at| at < lsn) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use pgoutput::Lsn;

    use super::*;

    #[test]
    fn it_stays_broken_until_the_event_has_got_through() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let at = |lsn: u64| CommitLsn(Lsn::from(lsn));
        assert!(breaker.admits(at(1), 2, now));
        assert!(breaker.admits(at(2), 2, now));
        assert!(!breaker.admits(at(3), 2, now));
        assert!(!breaker.admits(at(3), 2, now + 2 * MINUTE));
        breaker.passed(at(3));
        assert!(!breaker.admits(at(3), 2, now + 2 * MINUTE));
        breaker.passed(at(4));
        assert!(breaker.admits(at(5), 2, now + 2 * MINUTE));
    }

    #[test]
    fn a_new_minute_counts_anew() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let at = CommitLsn(Lsn::from(1));
        assert!(breaker.admits(at, 1, now));
        assert!(breaker.admits(at, 1, now + MINUTE));
    }
}
