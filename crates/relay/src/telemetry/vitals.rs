//! How a pipeline is doing, for /ready, /live and /status.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use pgoutput::{Lsn, PgTimestamp};
use serde::Serialize;

use super::lag::Lag;
use super::outlook::Outlook;
use super::state::State;
use super::unconfirmed::Unconfirmed;
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::source::catalog::{Holder, SlotUse};

/// The server counts as heard from this recently; longer only where keepalives are rarer.
const SOURCE_SILENCE: Duration = Duration::from_secs(10);
/// How late a keepalive may be, which is due at half of `wal_sender_timeout`.
const KEEPALIVE_GRACE: Duration = Duration::from_secs(5);
/// The catalog counts as readable if it was read this recently.
const CATALOG_SILENCE: Duration = Duration::from_secs(10);
/// A window that has been in Kafka's hands longer is a reason not to be ready.
const WINDOW_AGE: Duration = Duration::from_secs(5);
/// The catalog is looked at about once a second; what it says is stale after this long.
pub const STALE_AFTER: Duration = Duration::from_secs(5);
/// The pipeline's loop shows a sign of life four times a second.
const LOOP_SILENCE: Duration = Duration::from_secs(30);

/// The last failure, as shown.
#[derive(Debug, Clone, Serialize)]
pub struct LastFailure {
    code: &'static str,
    message: String,
    remedy: &'static str,
    seconds_ago: f64,
}

impl From<&(Failure, Instant)> for LastFailure {
    fn from((failure, at): &(Failure, Instant)) -> Self {
        Self {
            code: failure.code.name,
            message: failure.message.clone(),
            remedy: failure.code.remedy,
            seconds_ago: at.elapsed().as_secs_f64(),
        }
    }
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
    /// How old the slot's figures are.
    slot_age_seconds: Option<f64>,
    slot_unconfirmed_seconds: Option<f64>,
    /// Whether slot and lag can't be brought up to date.
    stale: bool,
    heard_from_source_seconds_ago: Option<f64>,
    oldest_window_seconds: Option<f64>,
    publish_lag_seconds: f64,
    last_failure: Option<LastFailure>,
    /// Why states can't be written back; publishing goes on.
    write_back_failure: Option<LastFailure>,
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
    /// Why states can't be written back at present, and since when.
    write_back: Option<(Failure, Instant)>,
    lag: Lag,
    unconfirmed: Unconfirmed,
    /// When the catalog was last read in this session, or the session began.
    watched: Instant,
    /// Why the catalog has not been readable for long.
    blind: Option<Failure>,
    outlook: Outlook,
    panicked: bool,
}

/// Shared between a pipeline and the admin endpoints.
#[derive(Debug)]
pub struct Vitals {
    pipeline: String,
    source_silence: Duration,
    inner: Mutex<Inner>,
}

impl Vitals {
    /// A pipeline that is about to start.
    pub fn new(pipeline: &Pipeline) -> Self {
        let now = Instant::now();
        let keepalive = pipeline.postgres.wal_sender_timeout / 2;
        let inner = Inner {
            state: State::Starting,
            beat: now,
            heard: None,
            oldest_window: None,
            confirmed: Lsn::INVALID,
            slot: None,
            looked: None,
            failure: None,
            trouble: None,
            progressed: false,
            write_back: None,
            lag: Lag::new(now),
            unconfirmed: Unconfirmed::default(),
            watched: now,
            blind: None,
            outlook: Outlook::default(),
            panicked: false,
        };
        Self {
            pipeline: pipeline.name.clone(),
            source_silence: SOURCE_SILENCE.max(keepalive + KEEPALIVE_GRACE),
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
            inner.watched = inner.beat;
            inner.blind = None;
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
        inner.lag.lose_sight();
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

    /// States can't be written back. Told once for each cause.
    pub fn write_back_failed(&self, failure: &Failure) {
        let mut inner = self.lock();
        let known = inner.write_back.as_ref();
        if known.is_some_and(|(known, _)| known.code == failure.code) {
            return;
        }
        let (pipeline, code, error) = (&self.pipeline, failure.code.name, &failure.message);
        if failure.is_transient() {
            tracing::warn!(
                pipeline,
                code,
                error,
                "write-back waits; publishing goes on"
            );
        } else {
            let remedy = failure.code.remedy;
            tracing::error!(
                pipeline,
                code,
                error,
                remedy,
                "write-back is refused: publishing goes on, but nothing is confirmed"
            );
        }
        inner.write_back = Some((failure.clone(), Instant::now()));
    }

    /// States were written back, or the session that failed to is over.
    pub fn written_back(&self) {
        if self.lock().write_back.take().is_some() {
            tracing::info!(pipeline = self.pipeline, "write-back goes on");
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

    /// A look at the catalog found what the slot costs.
    pub fn looked(&self, slot: SlotUse) {
        let mut inner = self.lock();
        let now = Instant::now();
        let confirmed = slot.confirmed_flush.unwrap_or(Lsn::INVALID);
        inner.unconfirmed.looked(slot.wal_end, confirmed, now);
        inner.slot = Some(slot);
        inner.looked = Some(now);
        inner.watched = now;
        if inner.blind.take().is_some() {
            tracing::info!(pipeline = self.pipeline, "the catalog can be read again");
        }
    }

    /// A look at the catalog failed. Single ones are no matter.
    pub fn look_failed(&self, failure: &Failure) {
        let mut inner = self.lock();
        if inner.watched.elapsed() < CATALOG_SILENCE {
            return;
        }
        if inner.blind.is_none() {
            tracing::warn!(
                pipeline = self.pipeline,
                code = failure.code.name,
                error = failure.message,
                "the catalog can't be read: nothing is confirmed"
            );
        }
        inner.blind = Some(failure.clone());
    }

    /// A standby has seen who holds the slot.
    pub fn held_by(&self, holder: Holder) {
        self.lock().outlook.held_by(holder, Instant::now());
    }

    /// A standby has asked Kafka.
    pub fn asked_kafka(&self, failure: Option<Failure>) {
        self.lock().outlook.asked_kafka(failure);
    }

    /// The pipeline's thread is ending by a panic.
    pub fn panicked(&self) {
        self.lock().panicked = true;
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
        self.lock()
            .lag
            .note(oldest_event, caught_up, Instant::now());
    }

    /// Age of the oldest committed event that is not durable in Kafka, in seconds: of the oldest
    /// at hand; else 0 when the stream is caught up; else, as it can't be known, the time since it
    /// was.
    pub fn publish_lag_seconds(&self) -> f64 {
        self.lock().publish_lag_seconds()
    }

    /// How old what is known of the slot is, and how long WAL has been waiting to be confirmed.
    pub fn slot_seconds(&self) -> Option<(f64, f64)> {
        self.lock().slot_seconds()
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        self.lock().state
    }

    /// Whether the loop still turns.
    pub fn is_alive(&self) -> bool {
        let inner = self.lock();
        let looping = matches!(inner.state, State::Streaming | State::Draining);
        !inner.panicked && (!looping || inner.beat.elapsed() < LOOP_SILENCE)
    }

    /// For /ready.
    pub fn readiness(&self) -> Readiness {
        let inner = self.lock();
        let reasons = inner.reasons(self.source_silence);
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
        let (readiness, stale) = (self.readiness(), self.is_stale());
        let inner = self.lock();
        let (slot_age, unconfirmed) = inner.slot_seconds().unzip();
        let seconds = |since: Instant| since.elapsed().as_secs_f64();
        Status {
            readiness,
            confirmed_lsn: inner.confirmed,
            slot: inner.slot.clone(),
            slot_age_seconds: slot_age,
            slot_unconfirmed_seconds: unconfirmed,
            stale,
            heard_from_source_seconds_ago: inner.heard.map(seconds),
            oldest_window_seconds: inner.oldest_window.map(seconds),
            publish_lag_seconds: inner.publish_lag_seconds(),
            last_failure: inner.failure.as_ref().map(LastFailure::from),
            write_back_failure: inner.write_back.as_ref().map(LastFailure::from),
        }
    }
}

impl Inner {
    fn reasons(&self, source_silence: Duration) -> Vec<String> {
        if self.panicked {
            return vec!["its thread has panicked: restart the process".into()];
        }
        match (self.state, &self.failure) {
            (State::Streaming, _) => self.doubts(source_silence),
            (State::Standby, _) => self.outlook.reasons(&self.unconfirmed, Instant::now()),
            (State::Retrying | State::Stopped, Some((failure, _))) => {
                vec![format!("{}: {}", self.state.name(), failure)]
            }
            (state, _) => vec![state.name().to_owned()],
        }
    }

    /// Why events may not flow although the pipeline is streaming.
    fn doubts(&self, source_silence: Duration) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.heard.is_some_and(|at| at.elapsed() > source_silence) {
            let seconds = source_silence.as_secs();
            doubts.push(format!(
                "nothing heard from Postgres for more than {seconds} s"
            ));
        }
        if self.watched.elapsed() > CATALOG_SILENCE {
            let seconds = CATALOG_SILENCE.as_secs();
            let why = self.blind.as_ref().map(|failure| format!(": {failure}"));
            doubts.push(format!(
                "the catalog has not been readable for more than {seconds} s, so nothing is confirmed{}",
                why.unwrap_or_default()
            ));
        }
        if let Some(trouble) = &self.trouble {
            doubts.push(format!("nothing committed since: {trouble}"));
        }
        if self
            .oldest_window
            .is_some_and(|at| at.elapsed() > WINDOW_AGE)
        {
            doubts.push("a window has been waiting for Kafka for more than 5 s".into());
        }
        doubts
    }

    fn publish_lag_seconds(&self) -> f64 {
        self.lag
            .age(Instant::now(), SystemTime::now())
            .as_secs_f64()
    }

    fn slot_seconds(&self) -> Option<(f64, f64)> {
        let now = Instant::now();
        let age = now.duration_since(self.looked?).as_secs_f64();
        Some((age, self.unconfirmed.age(now).as_secs_f64()))
    }
}

#[cfg(test)]
#[path = "vitals_tests.rs"]
mod tests;
