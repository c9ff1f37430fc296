//! What is told of a pipeline's vitals, and why it is not ready.

use std::time::{Duration, Instant, SystemTime};

use pgoutput::Lsn;
use serde::Serialize;

use super::{CATALOG_SILENCE, Inner, Place, Vitals, WAITS_LONG, waits_long};
use crate::failure::Failure;
use crate::source::catalog::SlotUse;
use crate::telemetry::consumer_lag::ConsumerShown;
use crate::telemetry::state::{Role, State};
use crate::telemetry::stop::{Stop, StopShown};

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
    /// Its part among the relays of this pipeline.
    pub role: Role,
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
    /// What this relay has confirmed, or what the slot said at the last look.
    pub(super) confirmed_lsn: Option<Lsn>,
    /// What the newest committed checkpoint covers; `None` for another relay's.
    checkpoint_lsn: Option<Lsn>,
    slot: Option<SlotUse>,
    /// How old the slot's figures are.
    slot_age_seconds: Option<f64>,
    slot_unconfirmed_seconds: Option<f64>,
    /// Whether slot and lag can't be brought up to date.
    stale: bool,
    heard_from_source_seconds_ago: Option<f64>,
    oldest_window_seconds: Option<f64>,
    /// `None` where it is another relay's to say.
    publish_lag_seconds: Option<f64>,
    /// The consumer groups; likewise.
    consumers: Option<Vec<ConsumerShown>>,
    /// What stopped it, until it is past that.
    stopped_by: Option<StopShown>,
    last_failure: Option<LastFailure>,
    /// Why Kafka takes nothing, or the session before failed; nothing has been committed since.
    trouble: Option<LastFailure>,
    /// Why the catalog has not been readable for long; events flow, and nothing is confirmed.
    catalog_failure: Option<LastFailure>,
    /// Why states can't be written back; publishing goes on.
    write_back_failure: Option<LastFailure>,
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

impl Vitals {
    /// For /ready.
    pub fn readiness(&self) -> Readiness {
        let inner = self.lock();
        let reasons = inner.reasons(self.source_silence);
        Readiness {
            pipeline: self.pipeline.clone(),
            ready: reasons.is_empty(),
            role: inner.role(),
            state: inner.shown(),
            reasons,
        }
    }

    /// For /status.
    pub fn status(&self) -> Status {
        let (readiness, stale) = (self.readiness(), self.is_stale());
        let consumers = self.tells_lag().then(|| self.consumers.shown());
        let inner = self.lock();
        let (slot_age, unconfirmed) = inner.slot_seconds().unzip();
        let seconds = |since: Instant| since.elapsed().as_secs_f64();
        Status {
            readiness,
            confirmed_lsn: inner.confirmed_lsn(),
            checkpoint_lsn: inner.recorded,
            slot: inner.slot.clone(),
            slot_age_seconds: slot_age,
            slot_unconfirmed_seconds: unconfirmed,
            stale,
            heard_from_source_seconds_ago: inner.heard.map(seconds),
            oldest_window_seconds: inner.oldest_window.map(seconds),
            publish_lag_seconds: inner.publish_lag_seconds(),
            consumers,
            stopped_by: inner.stop.as_ref().map(|stop| stop.shown(Instant::now())),
            last_failure: inner.failure.as_ref().map(LastFailure::from),
            trouble: inner.trouble_shown(),
            catalog_failure: inner.blind.as_ref().map(LastFailure::from),
            write_back_failure: inner.write_back.as_ref().map(LastFailure::from),
        }
    }
}

impl Inner {
    fn trouble_shown(&self) -> Option<LastFailure> {
        let since = self
            .kafka_trouble
            .or(self.failure.as_ref().map(|(_, at)| *at));
        let trouble = self.trouble.clone().zip(since)?;
        Some(LastFailure::from(&trouble))
    }

    pub(super) fn reasons(&self, source_silence: Duration) -> Vec<String> {
        if self.panicked {
            return vec!["its thread has panicked: restart the process".into()];
        }
        match (self.shown(), &self.failure) {
            (State::Streaming, _) => self.doubts(source_silence),
            (State::Standby, _) => self.standby_doubts(),
            (State::Stopped, _) => self.stop_reasons(),
            (State::Retrying, Some((failure, _))) => {
                vec![format!("{}: {}", self.state.name(), failure)]
            }
            (state, _) => vec![state.name().to_owned()],
        }
    }

    /// Why it is stopped, and what keeps it from finding out whether that is mended.
    fn stop_reasons(&self) -> Vec<String> {
        let stopped = |stop: &Stop| format!("{}: {}", State::Stopped.name(), stop.failure());
        let beside = |failure: &Failure| format!("while looking again: {failure}");
        let reasons = [
            self.stop.as_ref().map(stopped),
            self.trouble.as_ref().map(beside),
        ];
        reasons.into_iter().flatten().collect()
    }

    fn standby_doubts(&self) -> Vec<String> {
        let mut reasons = self.outlook.reasons(&self.unconfirmed, Instant::now());
        if let Some(stop) = &self.stop {
            let failure = stop.failure();
            reasons.push(format!(
                "the slot has not got past what stopped this relay: {failure}"
            ));
        }
        reasons
    }

    pub(super) fn shown(&self) -> State {
        match self.state {
            State::Starting | State::Streaming | State::Retrying if self.stop.is_some() => {
                State::Stopped
            }
            state => state,
        }
    }

    pub(super) fn role(&self) -> Role {
        match self.place {
            Place::Behind => Role::Standby,
            Place::Holder if self.stop.is_none() => Role::Active,
            Place::Holder | Place::Former | Place::Unknown => Role::Candidate,
        }
    }

    pub(super) fn confirmed_lsn(&self) -> Option<Lsn> {
        let slot = || self.slot.as_ref()?.confirmed_flush;
        self.confirmed.or_else(slot)
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
            let why = self.blind.as_ref();
            let why = why.map(|(failure, _)| format!(": {failure}"));
            doubts.push(format!(
                "the catalog has not been readable for more than {seconds} s, so nothing is confirmed{}",
                why.unwrap_or_default()
            ));
        }
        if let Some(trouble) = &self.trouble {
            doubts.push(format!("nothing committed since: {trouble}"));
        }
        // The driver makes a trouble of it, unless it hangs itself.
        if self.trouble.is_none() && self.oldest_window.is_some_and(waits_long) {
            doubts.push(WAITS_LONG.into());
        }
        doubts
    }

    pub(super) fn publish_lag_seconds(&self) -> Option<f64> {
        let age = || self.lag.age(Instant::now(), SystemTime::now());
        match self.place {
            Place::Holder | Place::Former => Some(age().as_secs_f64()),
            Place::Behind | Place::Unknown => None,
        }
    }

    pub(super) fn slot_seconds(&self) -> Option<(f64, f64)> {
        let now = Instant::now();
        let age = now.duration_since(self.looked?).as_secs_f64();
        Some((age, self.unconfirmed.age(now).as_secs_f64()))
    }
}
