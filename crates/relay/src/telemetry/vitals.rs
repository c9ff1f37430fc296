//! How a pipeline is doing, for /ready, /live and /status.

mod shown;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use pgoutput::{Lsn, PgTimestamp};

use super::consumer_lag::ConsumerLags;
use super::lag::Lag;
use super::outlook::Outlook;
use super::state::{Role, State};
use super::stop::{News, Stop};
use super::unconfirmed::Unconfirmed;
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::source::catalog::{Holder, SlotUse};

pub(super) use shown::LastFailure;
pub use shown::{Readiness, Status};

/// The server counts as heard from this recently; longer only where keepalives are rarer.
const SOURCE_SILENCE: Duration = Duration::from_secs(10);
/// How late a keepalive may be, which is due at half of `wal_sender_timeout`.
const KEEPALIVE_GRACE: Duration = Duration::from_secs(5);
/// The catalog counts as readable if it was read this recently.
const CATALOG_SILENCE: Duration = Duration::from_secs(10);
/// A window that has been in Kafka's hands longer is a reason not to be ready.
const WINDOW_AGE: Duration = Duration::from_secs(5);
const WAITS_LONG: &str = "events have been waiting for an answer of Kafka for more than 5 s";
/// The catalog is looked at about once a second; what it says is stale after this long.
pub const STALE_AFTER: Duration = Duration::from_secs(5);
/// The pipeline's loop shows a sign of life four times a second.
const LOOP_SILENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Inner {
    state: State,
    place: Place,
    /// What stopped it, until it is past that, whatever else it does meanwhile.
    stop: Option<Stop>,
    beat: Instant,
    heard: Option<Instant>,
    oldest_window: Option<Instant>,
    /// By the session that holds the slot.
    confirmed: Option<Lsn>,
    /// What the newest checkpoint of this session covers.
    recorded: Option<Lsn>,
    /// How much of the stream this session had taken in when it failed.
    reached: Option<Lsn>,
    slot: Option<SlotUse>,
    looked: Option<Instant>,
    failure: Option<(Failure, Instant)>,
    /// Kafka is in trouble, or the last session failed, and nothing has been committed since.
    trouble: Option<Failure>,
    /// Since when Kafka has been in trouble.
    kafka_trouble: Option<Instant>,
    progressed: bool,
    /// Why states can't be written back at present, and since when.
    write_back: Option<(Failure, Instant)>,
    lag: Lag,
    unconfirmed: Unconfirmed,
    /// When the catalog was last read in this session, or the session began.
    watched: Instant,
    /// Why the catalog has not been readable for long.
    blind: Option<(Failure, Instant)>,
    outlook: Outlook,
    panicked: bool,
}

/// Who holds the slot, as far as this relay knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It has not found out yet.
    Unknown,
    /// This one.
    Holder,
    /// Nobody since this one did.
    Former,
    /// Another one, when it last looked. Ends when this one holds it.
    Behind,
}

/// Shared between a pipeline and the admin endpoints.
#[derive(Debug)]
pub struct Vitals {
    pipeline: String,
    source_silence: Duration,
    consumers: ConsumerLags,
    inner: Mutex<Inner>,
}

/// Whether a window has been in Kafka's hands for too long.
fn waits_long(since: Instant) -> bool {
    since.elapsed() > WINDOW_AGE
}

impl Vitals {
    /// A pipeline that is about to start.
    pub fn new(pipeline: &Pipeline) -> Self {
        let now = Instant::now();
        let keepalive = pipeline.postgres.wal_sender_timeout / 2;
        let inner = Inner {
            state: State::Starting,
            place: Place::Unknown,
            stop: None,
            beat: now,
            heard: None,
            oldest_window: None,
            confirmed: None,
            recorded: None,
            reached: None,
            slot: None,
            looked: None,
            failure: None,
            trouble: None,
            kafka_trouble: None,
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
            consumers: ConsumerLags::new(pipeline),
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
        // While a standby or a relay that retries looks again, it is still just that.
        let again = matches!(inner.state, State::Standby | State::Retrying);
        if !(state == State::Starting && again) {
            inner.state = state;
        }
        if state == State::Streaming {
            inner.heard = Some(inner.beat);
            inner.watched = inner.beat;
            inner.blind = None;
            // Whatever was met before there was a stream is not there any more.
            if inner.stop.as_ref().is_some_and(|stop| !stop.is_in_stream()) {
                self.leave_behind(&mut inner);
            }
        }
    }

    /// This session holds the slot.
    pub fn holds_slot(&self) {
        let mut inner = self.lock();
        inner.place = Place::Holder;
        if inner.state == State::Standby {
            inner.state = State::Starting;
        }
    }

    /// The session is over, and with it the hold on the slot. What is known of the failure right
    /// away is shown right away; [`failed`](Self::failed) follows.
    pub fn released(&self, failure: &Failure) {
        let mut inner = self.lock();
        inner.confirmed = None;
        inner.recorded = None;
        inner.place = match inner.place {
            _ if failure.stands_by() => Place::Behind,
            Place::Holder => Place::Former,
            other => other,
        };
        if inner.state == State::Streaming {
            inner.state = State::Starting;
        }
    }

    /// How far the stream had been taken in when the session failed.
    pub fn reached(&self, lsn: Lsn) {
        self.lock().reached = Some(lsn);
    }

    /// Whether something in the stream stopped it and may do so again.
    pub fn is_rechecking(&self) -> bool {
        self.lock().stop.as_ref().is_some_and(Stop::is_in_stream)
    }

    /// The session failed. Returns what there is to be said.
    pub fn failed(&self, failure: &Failure) -> News {
        let mut inner = self.lock();
        let now = Instant::now();
        inner.beat = now;
        inner.oldest_window = None;
        inner.confirmed = None;
        let reached = inner.reached.take();
        let news = if failure.stands_by() {
            inner.stand_by(failure)
        } else if failure.is_transient() {
            inner.state = State::Retrying;
            inner.lag.lose_sight();
            inner.trouble = Some(failure.clone());
            if failure.code.name.starts_with("kafka-") {
                inner.kafka_trouble.get_or_insert(now);
            }
            News::First
        } else {
            inner.state = State::Stopped;
            inner.lag.lose_sight();
            inner.trouble = None;
            match &mut inner.stop {
                Some(stop) => stop.met(failure, reached, now),
                none => {
                    *none = Some(Stop::new(failure, reached, now));
                    News::First
                }
            }
        };
        inner.failure = Some((failure.clone(), now));
        news
    }

    fn leave_behind(&self, inner: &mut Inner) {
        if let Some(stop) = inner.stop.take() {
            let stopped_s = stop.age(Instant::now()).as_secs();
            let code = stop.failure().code.name;
            tracing::info!(
                pipeline = self.pipeline,
                code,
                stopped_s,
                "past what stopped the pipeline"
            );
        }
    }

    fn confirmed_up_to(&self, inner: &mut Inner, lsn: Lsn) {
        if inner.stop.as_ref().is_some_and(|stop| stop.is_past(lsn)) {
            self.leave_behind(inner);
        }
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
        inner.kafka_trouble.get_or_insert_with(Instant::now);
    }

    /// For how long the relay that holds the slot has not got anything into Kafka, though it
    /// tries.
    pub fn cut_off_from_kafka(&self) -> Option<Duration> {
        let inner = self.lock();
        if inner.place != Place::Holder {
            return None;
        }
        let since = [inner.kafka_trouble, inner.oldest_window];
        since.into_iter().flatten().min().map(|at| at.elapsed())
    }

    /// Whether nothing has been committed since the last trouble.
    pub fn in_trouble(&self) -> bool {
        self.lock().trouble.is_some()
    }

    /// Something was committed in Kafka.
    pub fn committed(&self) {
        let mut inner = self.lock();
        inner.kafka_trouble = None;
        if inner.stop.as_ref().is_some_and(Stop::is_past_with_a_commit) {
            self.leave_behind(&mut inner);
        }
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

    /// The session that could not write states back is over.
    pub fn write_back_ended(&self) {
        self.lock().write_back = None;
    }

    /// States were written back.
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
        let mut inner = self.lock();
        inner.confirmed = Some(lsn);
        self.confirmed_up_to(&mut inner, lsn);
    }

    /// A committed checkpoint covers the stream up to here.
    pub fn recorded(&self, lsn: Lsn) {
        self.lock().recorded = Some(lsn);
    }

    /// A look at the catalog found what the slot costs.
    pub fn looked(&self, slot: SlotUse) {
        let mut inner = self.lock();
        let now = Instant::now();
        let confirmed = slot.confirmed_flush.unwrap_or(Lsn::INVALID);
        inner.unconfirmed.looked(slot.wal_end, confirmed, now);
        if inner.place == Place::Behind {
            let waiting = inner.unconfirmed.age(now);
            inner.lag.watch(now.checked_sub(waiting).unwrap_or(now));
        }
        if let Some(stop) = &mut inner.stop {
            stop.wal_ends(slot.wal_end);
        }
        // Another relay may have got past what stopped this one.
        self.confirmed_up_to(&mut inner, confirmed);
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
                remedy = failure.code.remedy,
                "the catalog can't be read: nothing is confirmed"
            );
        }
        inner.blind = Some((failure.clone(), Instant::now()));
    }

    /// A standby has seen who holds the slot.
    pub fn held_by(&self, holder: Holder) {
        self.lock().outlook.held_by(holder, Instant::now());
    }

    /// A standby has asked Kafka.
    pub fn asked_kafka(&self, failure: Option<Failure>) {
        self.lock().outlook.asked_kafka(failure);
    }

    /// Whether Kafka could be used when a standby last asked.
    pub fn could_use_kafka(&self) -> bool {
        self.lock().outlook.could_use_kafka()
    }

    /// The pipeline's thread is ending by a panic.
    pub fn panicked(&self) {
        self.lock().panicked = true;
    }

    /// Whether backlog and lag are not known: the catalog has not been readable lately, or nothing
    /// has been seen yet of what is to be delivered.
    pub fn is_stale(&self) -> bool {
        let inner = self.lock();
        let looked = inner.looked.is_some_and(|at| at.elapsed() <= STALE_AFTER);
        !(looked && inner.lag.is_known())
    }

    /// A sign of life of the loop.
    pub fn beat(&self, heard: Instant, oldest_window: Option<Instant>) {
        // librdkafka says nothing of a broker that is silent, for as long as its requests may take.
        if oldest_window.is_some_and(waits_long) && !self.in_trouble() {
            self.trouble(&Failure::new("kafka-unreachable", WAITS_LONG));
        }
        let mut inner = self.lock();
        inner.beat = Instant::now();
        inner.heard = Some(heard);
        inner.oldest_window = oldest_window;
    }

    /// The oldest event at hand, and whether there is nothing else to come.
    pub fn lag(&self, oldest_event: Option<PgTimestamp>, caught_up: bool) {
        let now = (Instant::now(), SystemTime::now());
        self.lock().lag.note(oldest_event, caught_up, now);
    }

    /// Age of the oldest committed event that is not durable in Kafka, in seconds: of the oldest
    /// at hand; else 0 when the stream is caught up; else, as it can't be known, the time since it
    /// was. `None` where it is another relay's to say, or nobody knows whose.
    pub fn publish_lag_seconds(&self) -> Option<f64> {
        self.lock().publish_lag_seconds()
    }

    /// Whether lag is this relay's to tell, and not another one's.
    pub fn tells_lag(&self) -> bool {
        self.publish_lag_seconds().is_some()
    }

    /// The lag of consumer groups.
    pub fn consumer_lags(&self) -> &ConsumerLags {
        &self.consumers
    }

    /// How old what is known of the slot is, and how long WAL has been waiting to be confirmed.
    pub fn slot_seconds(&self) -> Option<(f64, f64)> {
        self.lock().slot_seconds()
    }

    /// What it is doing, as everybody is told: a stopped pipeline that looks again is stopped.
    pub fn state(&self) -> State {
        self.lock().shown()
    }

    /// Code of what stopped it, while it is stopped.
    pub fn stopped_by(&self) -> Option<&'static str> {
        let inner = self.lock();
        let stop = inner.stop.as_ref()?;
        (inner.shown() == State::Stopped).then_some(stop.failure().code.name)
    }

    /// Its part among the relays of this pipeline.
    pub fn role(&self) -> Role {
        self.lock().role()
    }

    /// Whether the loop still turns.
    pub fn is_alive(&self) -> bool {
        let inner = self.lock();
        let looping = matches!(inner.state, State::Streaming | State::Draining);
        !inner.panicked && (!looping || inner.beat.elapsed() < LOOP_SILENCE)
    }
}

impl Inner {
    /// Another relay has the slot, or is to have it.
    fn stand_by(&mut self, failure: &Failure) -> News {
        let before = self.failure.as_ref().map(|(last, _)| last.code);
        let known = self.state == State::Standby && before == Some(failure.code);
        self.state = State::Standby;
        self.place = Place::Behind;
        self.trouble = None;
        self.kafka_trouble = None;
        // The next start finds it again; another relay may have none of it.
        self.stop = self.stop.take().filter(Stop::is_in_stream);
        if known { News::Known } else { News::First }
    }
}

#[cfg(test)]
#[path = "vitals_tests.rs"]
mod tests;
