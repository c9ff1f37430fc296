//! When to try again: exponential backoff with full jitter.

use std::time::Duration;

/// The shape of the waits between tries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Upper bound of the first wait.
    pub initial: Duration,
    /// Upper bound of every wait.
    pub max: Duration,
    /// Growth of the bound from one try to the next, at least 1.
    pub multiplier: f64,
}

/// Counts the tries since the last success.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: RetryPolicy,
    failures: u32,
}

impl Backoff {
    /// No failure yet.
    pub fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            failures: 0,
        }
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A try succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// A try failed: how long to wait. `random` is uniform in `0.0..1.0`.
    ///
    /// Full jitter: uniform between nothing and the bound, so that many relays that lost the
    /// same broker do not come back in step.
    pub fn next_wait(&mut self, random: f64) -> Duration {
        let wait = self.bound().mul_f64(random.clamp(0.0, 1.0));
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// The upper bound of the next wait.
    pub fn bound(&self) -> Duration {
        let max = self.policy.max.as_secs_f64();
        let exponent = i32::try_from(self.failures).unwrap_or(i32::MAX);
        let grown = self.policy.initial.as_secs_f64() * self.policy.multiplier.powi(exponent);
        // `max` first: of a bound that is no number it makes 0.
        Duration::from_secs_f64(grown.max(0.0).min(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        initial: Duration::from_millis(100),
        max: Duration::from_secs(1),
        multiplier: 2.0,
    };

    #[test]
    fn bounds_grow_to_the_maximum_and_start_over_after_success() {
        let mut backoff = Backoff::new(POLICY);
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(backoff.next_wait(1.0).as_millis());
        }
        assert_eq!(waits, [100, 200, 400, 800, 1000]);
        backoff.reset();
        assert_eq!(backoff.next_wait(1.0).as_millis(), 100);
    }

    #[test]
    fn jitter_spans_the_whole_range() {
        let mut backoff = Backoff::new(POLICY);
        assert_eq!(backoff.next_wait(0.0), Duration::ZERO);
        assert_eq!(backoff.next_wait(0.5), Duration::from_millis(100));
    }

    #[test]
    fn endless_failures_stay_at_the_maximum() {
        let mut backoff = Backoff {
            policy: POLICY,
            failures: u32::MAX,
        };
        assert_eq!(backoff.next_wait(1.0), POLICY.max);
    }
}
