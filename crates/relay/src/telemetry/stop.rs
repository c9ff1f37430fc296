//! What stopped a pipeline, until it is known to be past it.
//!
//! A stopped pipeline looks again by going through a whole session, which may stream for a while
//! until it meets the cause again. That it streams is therefore no sign of a repaired cause: only
//! that the slot is confirmed beyond where the cause was met.

use std::time::{Duration, Instant};

use pgoutput::Lsn;
use serde::Serialize;

use crate::failure::Failure;

/// How often a person is reminded.
const REMINDER: Duration = Duration::from_secs(300);

/// What is to be logged of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It has not been said yet.
    First,
    /// It is time to say it once more.
    Still {
        /// How long the pipeline has been stopped.
        stopped: Duration,
        /// How often the cause has been met.
        met: u32,
    },
    /// It was said lately.
    Known,
}

/// A stop in /status.
#[derive(Debug, Clone, Serialize)]
pub(super) struct StopShown {
    code: &'static str,
    seconds: f64,
    times_met: u32,
    /// Confirming up to here proves that the cause is gone; `None` where opening a session does.
    past_at_lsn: Option<Lsn>,
}

#[derive(Debug)]
pub(super) struct Stop {
    failure: Failure,
    since: Instant,
    met: u32,
    said: Instant,
    /// Everything taken from the stream when the cause was met lay below; invalid if that was
    /// nothing. `None` if it was met before there was a stream.
    reached: Option<Lsn>,
}

impl Stop {
    /// The pipeline stops.
    pub fn new(failure: &Failure, reached: Option<Lsn>, now: Instant) -> Self {
        Self {
            failure: failure.clone(),
            since: now,
            met: 1,
            said: now,
            reached,
        }
    }

    /// A cause was met while it was stopped: the same one, or one before or behind it.
    pub fn met(&mut self, failure: &Failure, reached: Option<Lsn>, now: Instant) -> News {
        let same = self.failure.code == failure.code;
        self.failure = failure.clone();
        self.met = self.met.saturating_add(1);
        // A look that does not come as far proves nothing of what was met beyond.
        self.reached = self.reached.max(reached);
        if !same {
            self.said = now;
            return News::First;
        }
        if now.duration_since(self.said) < REMINDER {
            return News::Known;
        }
        self.said = now;
        News::Still {
            stopped: now.duration_since(self.since),
            met: self.met,
        }
    }

    /// Whether it was met in the stream, so that it may be met there again.
    pub fn is_in_stream(&self) -> bool {
        self.reached.is_some()
    }

    /// Whether a slot that is confirmed up to `confirmed` has left the cause behind.
    pub fn is_past(&self, confirmed: Lsn) -> bool {
        let somewhere = self.reached.filter(|reached| *reached != Lsn::INVALID);
        somewhere.is_some_and(|reached| confirmed >= reached)
    }

    /// Whether a commit in Kafka leaves the cause behind: it was met before anything came from the
    /// stream, so nothing had been committed yet.
    pub fn is_past_with_a_commit(&self) -> bool {
        self.reached == Some(Lsn::INVALID)
    }

    /// The server's WAL ends here: what lay beyond is not there any more, as after a restore.
    pub fn wal_ends(&mut self, wal_end: Lsn) {
        self.reached = self.reached.map(|reached| reached.min(wal_end));
    }

    pub fn failure(&self) -> &Failure {
        &self.failure
    }

    pub fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.since)
    }

    pub fn shown(&self, now: Instant) -> StopShown {
        StopShown {
            code: self.failure.code.name,
            seconds: self.age(now).as_secs_f64(),
            times_met: self.met,
            past_at_lsn: self.reached,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_secs(5);

    fn failure(code: &str) -> Failure {
        Failure::new(code, "for a test")
    }

    #[test]
    fn it_is_said_first_and_then_every_five_minutes() {
        let start = Instant::now();
        let mut stop = Stop::new(&failure("slot-lost"), None, start);
        let mut said = Vec::new();
        for look in 1..=125 {
            let news = stop.met(&failure("slot-lost"), None, start + look * LOOK);
            if news != News::Known {
                said.push(news);
            }
        }
        let still = |looks: u32| News::Still {
            stopped: looks * LOOK,
            met: looks + 1,
        };
        assert_eq!(said, [still(60), still(120)]);
        let other = stop.met(&failure("postgres-auth"), None, start + 126 * LOOK);
        assert_eq!(other, News::First);
    }

    #[test]
    fn only_a_slot_confirmed_beyond_the_cause_is_past_it() {
        let now = Instant::now();
        let at = |lsn: u64| Some(Lsn::from(lsn));
        let mut stop = Stop::new(&failure("event-too-large"), at(50), now);
        assert!(!stop.is_past(Lsn::from(49)));
        assert!(stop.is_past(Lsn::from(50)));
        // A look that fails before there is a stream, or earlier in it.
        stop.met(&failure("postgres-auth"), None, now);
        stop.met(&failure("publication-changed"), at(40), now);
        assert!(!stop.is_past(Lsn::from(49)));
        stop.wal_ends(Lsn::from(30));
        assert!(stop.is_past(Lsn::from(30)), "a restored server");
        assert!(!Stop::new(&failure("slot-lost"), None, now).is_past(Lsn::from(50)));
        let stop = Stop::new(&failure("topic-missing"), Some(Lsn::INVALID), now);
        assert!(!stop.is_past(Lsn::from(50)) && stop.is_past_with_a_commit());
    }
}
