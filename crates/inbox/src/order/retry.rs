//! What follows a failure.

use std::time::Duration;

use delivery::{Backoff, RetryPolicy};

/// How often a failing event is tried, and how long is waited in between.
///
/// The wait is uniform between nothing and a bound (full jitter), which grows from `initial_backoff` by
/// `multiplier` up to `max_backoff`.
///
/// ```
/// use std::time::Duration;
///
/// let retry = inbox::Retry::attempts(8).backoff(Duration::from_millis(50), Duration::from_secs(60));
/// assert_eq!((retry.max_attempts, retry.multiplier), (8, 2.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Retry {
    /// Tries in all, at least 1. After the last one the event becomes a dead letter.
    pub max_attempts: u32,
    /// Bound of the first wait.
    pub initial_backoff: Duration,
    /// Bound of every wait.
    pub max_backoff: Duration,
    /// Growth of the bound, at least 1 and below 1000.
    pub multiplier: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(30),
            multiplier: 2.0,
        }
    }
}

impl Retry {
    /// So many tries, with the default waits.
    pub fn attempts(max_attempts: u32) -> Self {
        Self {
            max_attempts,
            ..Self::default()
        }
    }

    /// With these bounds of the waits.
    pub fn backoff(mut self, initial: Duration, max: Duration) -> Self {
        self.initial_backoff = initial;
        self.max_backoff = max;
        self
    }

    /// Waits that follow this policy.
    pub(crate) fn waits(&self) -> Backoff {
        Backoff::new(RetryPolicy {
            initial: self.initial_backoff,
            max: self.max_backoff,
            multiplier: self.multiplier,
        })
    }
}

/// What is to be done with an event that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again after this time.
    Again(Duration),
    /// It becomes a dead letter.
    DeadLetter,
}

/// The tries of one event.
#[derive(Clone, Debug)]
pub(crate) struct Attempts {
    /// Failures that count.
    failed: u32,
    waits: Backoff,
}

impl Attempts {
    pub fn new(retry: &Retry) -> Self {
        Self {
            failed: 0,
            waits: retry.waits(),
        }
    }

    /// How often it has failed by its own fault.
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// The event failed. `random` is uniform in `0.0..1.0`.
    pub fn after_failure(&mut self, retry: &Retry, random: f64) -> Next {
        self.failed = self.failed.saturating_add(1);
        if self.failed >= retry.max_attempts {
            return Next::DeadLetter;
        }
        Next::Again(self.waits.next_wait(random))
    }

    /// The event was in another's way, as in a deadlock: that is nobody's fault.
    pub fn after_conflict(&mut self, random: f64) -> Duration {
        self.waits.next_wait(random)
    }

    /// The event can never be handled.
    pub fn after_verdict(&mut self) -> Next {
        self.failed = self.failed.saturating_add(1);
        Next::DeadLetter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_dead_after_its_last_attempt() {
        let retry = Retry::attempts(3);
        let mut attempts = Attempts::new(&retry);
        let next: Vec<_> = (0..3)
            .map(|_| attempts.after_failure(&retry, 1.0))
            .collect();
        let wait = |ms| Next::Again(Duration::from_millis(ms));
        assert_eq!(next, [wait(100), wait(200), Next::DeadLetter]);
        assert_eq!(attempts.failed(), 3);
    }

    #[test]
    fn conflicts_never_kill_an_event() {
        let retry = Retry::attempts(1);
        let mut attempts = Attempts::new(&retry);
        for _ in 0..100 {
            assert!(attempts.after_conflict(1.0) <= retry.max_backoff);
        }
        assert_eq!(attempts.failed(), 0);
    }

    #[test]
    fn a_verdict_is_not_tried_again() {
        let mut attempts = Attempts::new(&Retry::default());
        assert_eq!(attempts.after_verdict(), Next::DeadLetter);
    }
}
