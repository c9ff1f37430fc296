//! How a pipeline is doing, for /ready, /live and /status.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pgoutput::{Lsn, PgTimestamp};
use serde::Serialize;

use crate::failure::Failure;
use crate::source::catalog::SlotUse;

/// The server counts as heard from this recently.
const SOURCE_SILENCE: Duration = Duration::from_secs(10);
/// A window that has been in Kafka's hands longer is a reason not to be ready.
const WINDOW_AGE: Duration = Duration::from_secs(5);
/// The catalog is looked at about once a second.
const STALE_AFTER: Duration = Duration::from_secs(5);
/// The pipeline's loop shows a sign of life four times a second.
const LOOP_SILENCE: Duration = Duration::from_secs(30);

/// What a pipeline is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Connecting, fencing, reading the checkpoint. Ends with streaming or a failure.
    Starting,
    /// Another session holds the slot: this one stands by.
    Standby,
    /// Events flow.
    Streaming,
    /// A passing failure: waiting to try again.
    Retrying,
    /// A person must act; re-checked every few seconds.
    Stopped,
    /// Shutting down: publishing what has been taken in.
    Draining,
    /// Over.
    Ended,
}

/// The states, for metrics.
impl State {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Standby,
        Self::Streaming,
        Self::Retrying,
        Self::Stopped,
        Self::Draining,
        Self::Ended,
    ];

    /// Its name in metrics and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::Streaming => "streaming",
            Self::Retrying => "retrying",
            Self::Stopped => "stopped",
            Self::Draining => "draining",
            Self::Ended => "ended",
        }
    }
}

/// The last failure, as shown.
#[derive(Debug, Clone, Serialize)]
pub struct LastFailure {
    code: &'static str,
    message: String,
    remedy: &'static str,
    seconds_ago: f64,
}

/// A pipeline's part of /ready.
#[derive(Debug, Clone, Serialize)]
pub struct Readiness {
    /// The pipeline.
    pub pipeline: String,
    /// Events can flow, or this is a standby that can take over.
    pub ready: bool,
    /// `active` or `standby`.
    pub role: &'static str,
    /// What it is doing.
    pub state: State,
    /// Why it is not ready.
    pub reasons: Vec<String>,
}

/// A pipeline's part of /status.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    #[serde(flatten)]
    readiness: Readiness,
    confirmed_lsn: Lsn,
    slot: Option<SlotUse>,
    heard_from_source_seconds_ago: Option<f64>,
    oldest_window_seconds: Option<f64>,
    publish_lag_seconds: f64,
    last_failure: Option<LastFailure>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    beat: Instant,
    heard: Option<Instant>,
    oldest_window: Option<Instant>,
    confirmed: Lsn,
    slot: Option<SlotUse>,
    looked: Option<Instant>,
    failure: Option<(Failure, Instant)>,
    /// Kafka is in trouble, or the last session failed, and nothing has been committed since.
    trouble: Option<Failure>,
    progressed: bool,
    /// Commit time of the oldest event at hand that is not durable.
    oldest_event: Option<PgTimestamp>,
    /// When the stream was last known to be caught up.
    caught_up_at: SystemTime,
    caught_up: bool,
}

/// Shared between a pipeline and the admin endpoints.
#[derive(Debug)]
pub struct Vitals {
    pipeline: String,
    inner: Mutex<Inner>,
}

impl Vitals {
    /// A pipeline that is about to start.
    pub fn new(pipeline: &str) -> Self {
        let inner = Inner {
            state: State::Starting,
            beat: Instant::now(),
            heard: None,
            oldest_window: None,
            confirmed: Lsn::INVALID,
            slot: None,
            looked: None,
            failure: None,
            trouble: None,
            progressed: false,
            oldest_event: None,
            caught_up_at: SystemTime::now(),
            caught_up: false,
        };
        Self {
            pipeline: pipeline.to_owned(),
            inner: Mutex::new(inner),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pipeline's name.
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// A new state.
    pub fn enter(&self, state: State) {
        let mut inner = self.lock();
        inner.beat = Instant::now();
        // While a standby or a stopped pipeline looks again, it is still just that.
        let rechecking = state == State::Starting
            && matches!(
                inner.state,
                State::Standby | State::Stopped | State::Retrying
            );
        if !rechecking {
            inner.state = state;
        }
        if state == State::Streaming {
            inner.heard = Some(inner.beat);
        }
    }

    /// The session failed. Returns whether it had failed in the same way before.
    pub fn failed(&self, failure: &Failure) -> bool {
        let mut inner = self.lock();
        // Until something is committed it is the same trouble, however often it is looked at.
        let repeated = match inner.state {
            State::Standby => inner.failure.as_ref().map(|(last, _)| last),
            _ => inner.trouble.as_ref(),
        }
        .is_some_and(|last| last.code == failure.code);
        inner.state = match failure.code.name {
            "slot-active" => State::Standby,
            _ if failure.is_transient() => State::Retrying,
            _ => State::Stopped,
        };
        inner.beat = Instant::now();
        inner.oldest_window = None;
        inner.caught_up = false;
        inner.failure = Some((failure.clone(), Instant::now()));
        inner.trouble = (inner.state != State::Standby).then(|| failure.clone());
        repeated
    }

    /// Kafka is in trouble; librdkafka goes on trying.
    pub fn trouble(&self, failure: &Failure) {
        let mut inner = self.lock();
        if inner.trouble.is_none() {
            tracing::warn!(
                pipeline = self.pipeline,
                code = failure.code.name,
                error = failure.message,
                "kafka is in trouble"
            );
        }
        inner.trouble = Some(failure.clone());
    }

    /// Whether nothing has been committed since the last trouble.
    pub fn in_trouble(&self) -> bool {
        self.lock().trouble.is_some()
    }

    /// Something was committed in Kafka.
    pub fn committed(&self) {
        let mut inner = self.lock();
        if inner.trouble.take().is_some() {
            tracing::info!(pipeline = self.pipeline, "kafka takes events");
        }
    }

    /// The session is of use: a later failure starts its backoff anew.
    pub fn progressed(&self) {
        self.lock().progressed = true;
    }

    /// Whether the session was of use.
    pub fn take_progressed(&self) -> bool {
        std::mem::take(&mut self.lock().progressed)
    }

    /// The slot may be confirmed up to here.
    pub fn confirmed(&self, lsn: Lsn) {
        self.lock().confirmed = lsn;
    }

    /// A look at the catalog found what the slot costs, and how many rows there are.
    pub fn looked(&self, slot: SlotUse) {
        let mut inner = self.lock();
        inner.slot = Some(slot);
        inner.looked = Some(Instant::now());
    }

    /// Whether the catalog has not been readable lately, so that backlog and lag are stale.
    pub fn is_stale(&self) -> bool {
        self.lock()
            .looked
            .is_none_or(|at| at.elapsed() > STALE_AFTER)
    }

    /// A sign of life of the loop.
    pub fn beat(&self, heard: Instant, oldest_window: Option<Instant>) {
        let mut inner = self.lock();
        inner.beat = Instant::now();
        inner.heard = Some(heard);
        inner.oldest_window = oldest_window;
    }

    /// The oldest event at hand, and whether there is nothing else to come.
    pub fn lag(&self, oldest_event: Option<PgTimestamp>, caught_up: bool) {
        let mut inner = self.lock();
        inner.oldest_event = oldest_event;
        inner.caught_up = caught_up;
        if caught_up {
            inner.caught_up_at = SystemTime::now();
        }
    }

    /// Age of the oldest committed event that is not durable in Kafka, in seconds: of the oldest
    /// at hand; else 0 when the stream is caught up; else, as it can't be known, the time since it
    /// was.
    pub fn publish_lag_seconds(&self) -> f64 {
        self.lock().publish_lag_seconds()
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        self.lock().state
    }

    /// Whether the loop still turns.
    pub fn is_alive(&self) -> bool {
        let inner = self.lock();
        let looping = matches!(inner.state, State::Streaming | State::Draining);
        !looping || inner.beat.elapsed() < LOOP_SILENCE
    }

    /// For /ready.
    pub fn readiness(&self) -> Readiness {
        let inner = self.lock();
        let reasons = inner.reasons();
        let standby = inner.state == State::Standby;
        Readiness {
            pipeline: self.pipeline.clone(),
            ready: reasons.is_empty(),
            role: if standby { "standby" } else { "active" },
            state: inner.state,
            reasons,
        }
    }

    /// For /status.
    pub fn status(&self) -> Status {
        let readiness = self.readiness();
        let inner = self.lock();
        let seconds = |since: Instant| since.elapsed().as_secs_f64();
        Status {
            readiness,
            confirmed_lsn: inner.confirmed,
            slot: inner.slot.clone(),
            heard_from_source_seconds_ago: inner.heard.map(seconds),
            oldest_window_seconds: inner.oldest_window.map(seconds),
            publish_lag_seconds: inner.publish_lag_seconds(),
            last_failure: inner.failure.as_ref().map(|(failure, at)| LastFailure {
                code: failure.code.name,
                message: failure.message.clone(),
                remedy: failure.code.remedy,
                seconds_ago: seconds(*at),
            }),
        }
    }
}

impl Inner {
    fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        match (self.state, &self.failure) {
            (State::Streaming | State::Standby, _) => {}
            (State::Retrying | State::Stopped, Some((failure, _))) => {
                reasons.push(format!("{}: {}", self.state.name(), failure));
            }
            (state, _) => reasons.push(state.name().to_owned()),
        }
        if self.state != State::Streaming {
            return reasons;
        }
        if self.heard.is_some_and(|at| at.elapsed() > SOURCE_SILENCE) {
            reasons.push("nothing heard from Postgres for more than 10 s".into());
        }
        if let Some(trouble) = &self.trouble {
            reasons.push(format!("nothing committed since: {trouble}"));
        }
        if self
            .oldest_window
            .is_some_and(|at| at.elapsed() > WINDOW_AGE)
        {
            reasons.push("a window has been waiting for Kafka for more than 5 s".into());
        }
        reasons
    }

    fn publish_lag_seconds(&self) -> f64 {
        let since = match self.oldest_event {
            Some(oldest) => {
                let micros = u64::try_from(oldest.unix_micros()).unwrap_or(0);
                UNIX_EPOCH + Duration::from_micros(micros)
            }
            None if self.caught_up => return 0.0,
            None => self.caught_up_at,
        };
        SystemTime::now()
            .duration_since(since)
            .unwrap_or_default()
            .as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_tells_why_not() {
        let vitals = Vitals::new("p");
        assert!(!vitals.readiness().ready);
        vitals.enter(State::Streaming);
        assert!(vitals.readiness().ready);
        vitals.trouble(&Failure::new("kafka-unreachable", "all brokers down"));
        let readiness = vitals.readiness();
        assert!(!readiness.ready);
        assert!(
            readiness.reasons[0].contains("all brokers down"),
            "{readiness:?}"
        );
        vitals.committed();
        assert!(vitals.readiness().ready);
        assert!(!vitals.failed(&Failure::new("slot-lost", "gone")));
        assert!(!vitals.readiness().ready);
        vitals.enter(State::Starting);
        assert_eq!(vitals.state(), State::Stopped);
        vitals.enter(State::Streaming);
        assert!(vitals.failed(&Failure::new("slot-lost", "gone")));
        vitals.enter(State::Streaming);
        vitals.committed();
        assert!(!vitals.failed(&Failure::new("slot-lost", "gone")));
    }

    #[test]
    fn a_standby_is_ready_and_says_so() {
        let vitals = Vitals::new("p");
        vitals.failed(&Failure::new("slot-active", "held"));
        let readiness = vitals.readiness();
        assert!(readiness.ready);
        assert_eq!(readiness.role, "standby");
    }

    #[test]
    fn lag_is_zero_only_when_caught_up_and_grows_while_unknown() {
        let vitals = Vitals::new("p");
        vitals.lag(None, true);
        assert!(vitals.publish_lag_seconds().abs() < f64::EPSILON);
        vitals.lag(Some(PgTimestamp::from_unix_micros(0)), false);
        assert!(vitals.publish_lag_seconds() > 1e9);
        vitals.lock().caught_up_at = UNIX_EPOCH;
        vitals.lag(None, false);
        assert!(vitals.publish_lag_seconds() > 1e9);
    }
}
