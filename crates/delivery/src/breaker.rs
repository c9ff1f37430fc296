//! Halts rather than send a healthy stream to the dead letters wholesale.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use envelope::is_fed;
use pgoutput::{CommitLsn, Position};

const MINUTE: Duration = Duration::from_secs(60);

/// Counts the dead letters of a minute.
#[derive(Debug, Clone, Default)]
pub(crate) struct Breaker {
    since: Option<Instant>,
    count: usize,
    /// The events of the stream that were counted, `max_per_minute` at most. A session that ends before its dead
    /// letters are durable is followed by one that meets them again, and there are no more of them for that.
    counted: HashSet<Position>,
    /// The event at which it broke. It stays broken until that one has got through.
    broken_at: Option<Position>,
}

impl Breaker {
    /// Whether one more may be sent to the dead letters.
    pub fn admits(&mut self, at: Position, max_per_minute: usize, now: Instant) -> bool {
        if self.broken_at.is_some() {
            return false;
        }
        let since = self
            .since
            .filter(|since| now.duration_since(*since) < MINUTE);
        if since.is_none() {
            self.since = Some(now);
            self.count = 0;
            self.counted.clear();
        }
        if self.counted.contains(&at) {
            return true;
        }
        if self.count < max_per_minute {
            self.count += 1;
            // Ordinals of rows of a feed are those of other feeds, too.
            self.counted.extend(Some(at).filter(|at| !is_fed(*at)));
            return true;
        }
        self.broken_at = Some(at);
        false
    }

    /// Positions on another timeline are of other events.
    pub fn forget_counted(&mut self) {
        self.counted.clear();
    }

    /// Everything of the stream that commits before `lsn` is durable.
    pub fn passed(&mut self, lsn: CommitLsn) {
        let is_behind = |at: Position| !is_fed(at) && at.commit_lsn < lsn;
        if self.broken_at.is_some_and(is_behind) {
            *self = Self::default();
        }
    }

    /// The rows of a feed are durable up to this ordinal.
    pub fn fed(&mut self, done: u64) {
        let is_behind = |at: Position| is_fed(at) && at.index <= done;
        if self.broken_at.is_some_and(is_behind) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use pgoutput::Lsn;

    use super::*;

    fn at(lsn: u64, index: u64) -> Position {
        let commit_lsn = CommitLsn(Lsn::from(lsn));
        Position { commit_lsn, index }
    }

    #[test]
    fn a_row_of_a_feed_gets_through_with_its_feed_and_not_with_the_stream() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert!(!breaker.admits(at(0, 7), 0, now));
        breaker.passed(CommitLsn(Lsn::from(9)));
        breaker.fed(6);
        assert!(!breaker.admits(at(0, 7), 9, now));
        breaker.fed(7);
        assert!(breaker.admits(at(0, 8), 9, now));
        let mut breaker = Breaker::default();
        assert!(!breaker.admits(at(5, 1), 0, now));
        breaker.fed(100);
        assert!(!breaker.admits(at(5, 1), 9, now));
    }

    #[test]
    fn it_stays_broken_until_the_event_has_got_through() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let at = |lsn: u64| at(lsn, 0);
        assert!(breaker.admits(at(1), 2, now));
        assert!(breaker.admits(at(2), 2, now));
        assert!(!breaker.admits(at(3), 2, now));
        assert!(!breaker.admits(at(3), 2, now + 2 * MINUTE));
        breaker.passed(at(3).commit_lsn);
        assert!(!breaker.admits(at(3), 2, now + 2 * MINUTE));
        breaker.passed(at(4).commit_lsn);
        assert!(breaker.admits(at(5), 2, now + 2 * MINUTE));
    }

    #[test]
    fn an_event_that_later_sessions_meet_again_is_counted_once() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _session in 0..10 {
            assert!(breaker.admits(at(1, 0), 2, now) && breaker.admits(at(1, 1), 2, now));
        }
        assert!(!breaker.admits(at(2, 0), 2, now));
    }

    #[test]
    fn events_before_one_that_was_counted_count_too() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert!(breaker.admits(at(9, 0), 2, now));
        assert!(breaker.admits(at(1, 0), 2, now));
        assert!(!breaker.admits(at(2, 0), 2, now));
    }

    #[test]
    fn rows_of_feeds_have_ordinals_that_others_have_had() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert!(breaker.admits(at(0, 1), 2, now));
        assert!(breaker.admits(at(0, 1), 2, now));
        assert!(!breaker.admits(at(0, 1), 2, now));
    }

    #[test]
    fn a_new_minute_counts_anew() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let at = at(1, 0);
        assert!(breaker.admits(at, 1, now));
        assert!(breaker.admits(at, 1, now + MINUTE));
    }
}
