//! What the status page draws: the last quarter of an hour, in steps. Prometheus keeps the long run.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// The length of a step.
pub const STEP: Duration = Duration::from_secs(5);
/// Steps that are kept: 15 minutes.
const STEPS: usize = 180;
/// The first bucket ends here; each of the others is a quarter longer than the one before. So a quantile is
/// off by at most a quarter, and the last bucket begins above an hour.
const FIRST_BUCKET_SECONDS: f64 = 0.0005;
const GROWTH: f64 = 1.25;
const BUCKETS: usize = 72;

/// What happened in one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Events that became durable, a second.
    pub events_per_second: f64,
    /// Half of them took no longer than this, from commit to commit; `None` without events.
    pub latency_p50_seconds: Option<f64>,
    /// 99 of 100 took no longer than this.
    pub latency_p99_seconds: Option<f64>,
    /// Backlog at the end of the step, if it was known.
    pub backlog: Option<u64>,
    /// Publish lag at the end of the step, if it was known.
    pub publish_lag_seconds: Option<f64>,
}

/// Figures of the present, the same as those of /metrics.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Events durable in Kafka since the process began, dead letters included.
    pub events_published: u64,
    /// Those of them that are dead letters.
    pub dead_letters: u64,
    /// Keys that are parked.
    pub parked_keys: u64,
    /// Windows in Kafka's hands.
    pub windows_in_flight: u64,
    /// Committed events not yet durable, over all services, if that is this relay's to say.
    pub backlog: Option<u64>,
}

#[derive(Debug)]
struct Inner {
    figures: Figures,
    /// Of the step that has not ended.
    events: u64,
    latencies: Latencies,
    steps: VecDeque<Step>,
}

/// Figures of a pipeline and their recent past.
#[derive(Debug)]
pub struct Activity {
    inner: Mutex<Inner>,
}

impl Activity {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                figures: Figures::default(),
                events: 0,
                latencies: Latencies::default(),
                steps: VecDeque::with_capacity(STEPS),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A window is durable.
    pub fn published(&self, window: &Published) {
        let mut inner = self.lock();
        inner.figures.events_published += window.events;
        inner.figures.dead_letters += window.dead_letters;
        inner.events += window.events;
        inner.latencies.add(&window.latencies);
    }

    /// Windows in flight, as they are now.
    pub fn flight(&self, windows: u64) {
        self.lock().figures.windows_in_flight = windows;
    }

    /// Keys that are parked now.
    pub fn parked(&self, keys: u64) {
        self.lock().figures.parked_keys = keys;
    }

    /// The backlog as it is now; `None` where another relay tells it.
    pub fn backlog(&self, events: Option<u64>) {
        self.lock().figures.backlog = events;
    }

    /// A step ends. To be called every [`STEP`].
    pub fn end_step(&self, publish_lag_seconds: Option<f64>) {
        let mut inner = self.lock();
        let latencies = std::mem::take(&mut inner.latencies);
        let events = std::mem::take(&mut inner.events);
        let step = Step {
            events_per_second: events as f64 / STEP.as_secs_f64(),
            latency_p50_seconds: latencies.quantile(0.5),
            latency_p99_seconds: latencies.quantile(0.99),
            backlog: inner.figures.backlog,
            publish_lag_seconds,
        };
        if inner.steps.len() == STEPS {
            inner.steps.pop_front();
        }
        inner.steps.push_back(step);
    }

    /// The figures of now.
    pub fn figures(&self) -> Figures {
        self.lock().figures.clone()
    }

    /// The steps that have ended, the oldest first.
    pub fn steps(&self) -> Vec<Step> {
        self.lock().steps.iter().cloned().collect()
    }
}

impl Default for Activity {
    fn default() -> Self {
        Self::new()
    }
}

/// What one window adds, gathered without a lock.
#[derive(Debug, Default)]
pub struct Published {
    /// Its events.
    pub events: u64,
    /// Those of them that are dead letters.
    pub dead_letters: u64,
    /// How long those of the stream took.
    pub latencies: Latencies,
}

/// How often which latency was seen.
#[derive(Debug, Clone)]
pub struct Latencies {
    counts: [u32; BUCKETS],
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
        }
    }
}

impl Latencies {
    /// One event took so long.
    pub fn observe(&mut self, seconds: f64) {
        let steps = (seconds / FIRST_BUCKET_SECONDS).max(1.0).log(GROWTH).ceil();
        // A float that is too large or not a number becomes a bound of the type.
        let bucket = (steps as usize).min(BUCKETS - 1);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
    }

    /// The end of the bucket that this part of the events does not exceed.
    fn quantile(&self, part: f64) -> Option<f64> {
        let total: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        let wanted = (total as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted && seen > 0 {
                let exponent = i32::try_from(bucket).unwrap_or(i32::MAX);
                return Some(FIRST_BUCKET_SECONDS * GROWTH.powi(exponent));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn window(latencies: &[f64]) -> Published {
        let mut window = Published {
            events: latencies.len() as u64,
            ..Published::default()
        };
        latencies.iter().for_each(|l| window.latencies.observe(*l));
        window
    }

    #[test]
    fn a_step_tells_of_its_own_events_only() {
        let activity = Activity::new();
        activity.published(&window(&[0.010; 10]));
        activity.end_step(Some(0.5));
        activity.end_step(None);
        let steps = activity.steps();
        assert_eq!(steps[0].events_per_second, 2.0);
        assert_eq!(steps[0].publish_lag_seconds, Some(0.5));
        assert_eq!(steps[1].events_per_second, 0.0);
        assert_eq!(steps[1].latency_p50_seconds, None);
        assert_eq!(activity.figures().events_published, 10);
    }

    #[test]
    fn quantiles_are_off_by_a_quarter_at_most() {
        for exact in [0.0006, 0.004, 0.02, 1.5, 300.0] {
            let activity = Activity::new();
            activity.published(&window(&[exact; 3]));
            activity.end_step(None);
            let shown = activity.steps()[0].latency_p99_seconds.unwrap();
            assert!(
                (exact..=exact * GROWTH).contains(&shown),
                "{exact}: {shown}"
            );
        }
    }

    #[test]
    fn the_slow_ones_show_in_the_last_percent() {
        let mut latencies = vec![0.010; 95];
        latencies.extend([2.0; 5]);
        let activity = Activity::new();
        activity.published(&window(&latencies));
        activity.end_step(None);
        let step = &activity.steps()[0];
        assert!(step.latency_p50_seconds.unwrap() < 0.02);
        assert!(step.latency_p99_seconds.unwrap() > 1.9);
    }

    #[test]
    fn any_number_is_a_latency() {
        let mut latencies = Latencies::default();
        for odd in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            latencies.observe(odd);
        }
        assert!(latencies.quantile(1.0).unwrap() > 3600.0);
    }

    #[test]
    fn only_a_quarter_of_an_hour_is_kept() {
        let activity = Activity::new();
        for _ in 0..STEPS + 10 {
            activity.end_step(None);
        }
        assert_eq!(activity.steps().len(), STEPS);
    }
}
