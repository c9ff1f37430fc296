//! Publish lag: the age of the oldest committed event that is not durable in Kafka.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pgoutput::PgTimestamp;

#[derive(Debug)]
pub(super) struct Lag {
    /// Commit time of the oldest event at hand that is not durable, and since when it has been that.
    oldest: Option<(PgTimestamp, Instant)>,
    caught_up: bool,
    /// When everything was last known to be delivered.
    caught_up_at: Instant,
    /// That is a proof and not merely when the process started, or an event is at hand.
    known: bool,
}

impl Lag {
    pub fn new(now: Instant) -> Self {
        Self {
            oldest: None,
            caught_up: false,
            caught_up_at: now,
            known: false,
        }
    }

    /// Another relay delivers: everything committed before `delivered` is durable, as the slot
    /// tells. That is where the lag grows from after a takeover.
    pub fn watch(&mut self, delivered: Instant) {
        self.oldest = None;
        self.caught_up = false;
        self.caught_up_at = delivered;
        self.known = true;
    }

    /// Whether it is more than a guess.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// The oldest event at hand, and whether there is nothing else to come.
    pub fn note(
        &mut self,
        oldest: Option<PgTimestamp>,
        caught_up: bool,
        (now, clock): (Instant, SystemTime),
    ) {
        self.oldest = oldest.map(|event| match self.oldest {
            Some((same, since)) if same == event => (event, since),
            _ => (event, now),
        });
        self.caught_up = caught_up;
        self.known |= caught_up || self.oldest.is_some();
        // What was committed before the oldest event is delivered: under a load that never ends there
        // is no other proof.
        let proof = match self.oldest {
            Some(_) => now.checked_sub(self.age(now, clock)),
            None => caught_up.then_some(now),
        };
        self.caught_up_at = proof.map_or(self.caught_up_at, |at| at.max(self.caught_up_at));
    }

    /// The session is over: what the stream has beyond what is at hand is not known.
    pub fn lose_sight(&mut self) {
        self.caught_up = false;
    }

    /// Of the oldest event at hand; else 0 when the stream is caught up; else, as it can't be known,
    /// the time since it was.
    pub fn age(&self, now: Instant, clock: SystemTime) -> Duration {
        match self.oldest {
            Some((event, since)) => {
                let micros = u64::try_from(event.unix_micros()).unwrap_or(0);
                let committed = UNIX_EPOCH + Duration::from_micros(micros);
                let by_clocks = clock.duration_since(committed).unwrap_or_default();
                // The database's clock may be ahead of ours.
                by_clocks.max(now.duration_since(since))
            }
            None if self.caught_up => Duration::ZERO,
            None => now.duration_since(self.caught_up_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn it_is_zero_only_when_caught_up_and_grows_while_unknown() {
        let (start, clock) = (Instant::now(), SystemTime::now());
        let mut lag = Lag::new(start);
        assert_eq!(lag.age(start + HOUR, clock), HOUR);
        lag.note(None, true, (start + HOUR, clock));
        assert_eq!(lag.age(start + HOUR, clock), Duration::ZERO);
        lag.lose_sight();
        assert_eq!(lag.age(start + 3 * HOUR, clock), 2 * HOUR);
        lag.note(None, false, (start + 4 * HOUR, clock));
        assert_eq!(lag.age(start + 4 * HOUR, clock), 3 * HOUR);
    }

    #[test]
    fn after_a_takeover_it_grows_from_what_the_slot_told() {
        let (start, clock) = (Instant::now(), SystemTime::now());
        let mut lag = Lag::new(start);
        assert!(!lag.is_known());
        let old = PgTimestamp::from_unix_micros(0);
        lag.note(Some(old), false, (start, clock));
        lag.watch(start + 4 * HOUR);
        assert!(lag.is_known());
        assert_eq!(lag.age(start + 5 * HOUR, clock), HOUR);
    }

    #[test]
    fn it_grows_from_the_commit_or_from_receipt_if_the_database_clock_is_ahead() {
        let start = Instant::now();
        let clock = UNIX_EPOCH + 10 * HOUR;
        let at = |hour: i64| Some(PgTimestamp::from_unix_micros(hour * 3_600_000_000));
        let mut lag = Lag::new(start);
        lag.note(at(8), false, (start, clock));
        assert_eq!(lag.age(start, clock), 2 * HOUR);
        lag.note(at(12), false, (start, clock));
        assert_eq!(lag.age(start, clock), Duration::ZERO);
        lag.note(at(12), false, (start + HOUR, clock + HOUR));
        assert_eq!(lag.age(start + HOUR, clock + HOUR), HOUR);
    }

    #[test]
    fn under_a_load_that_never_ends_it_grows_from_the_oldest_event_that_was_at_hand() {
        let start = Instant::now();
        let clock = UNIX_EPOCH + 10 * HOUR;
        let at = |hour: i64| Some(PgTimestamp::from_unix_micros(hour * 3_600_000_000));
        let mut lag = Lag::new(start);
        lag.note(at(12), false, (start + 3 * HOUR, clock + 3 * HOUR));
        lag.lose_sight();
        lag.note(None, false, (start + 4 * HOUR, clock + 4 * HOUR));
        assert_eq!(lag.age(start + 4 * HOUR, clock + 4 * HOUR), 2 * HOUR);
    }
}
