//! How a pipeline stands, in metrics: state, role, readiness, and what ended its sessions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::labels::{CodeLabel, HistogramFamily, PipelineLabel};
use super::table::{self, families};
use super::{Role, State, Vitals};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StateLabel {
    pipeline: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RoleLabel {
    pipeline: String,
    role: &'static str,
}

fn waits() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 14))
}

families! {
    pub(super) struct StandingFamilies {
        ready: Family<PipelineLabel, Gauge> = Family::default(), table::READY;
        role: Family<RoleLabel, Gauge> = Family::default(), table::ROLE;
        state: Family<StateLabel, Gauge> = Family::default(), table::STATE;
        stopped: Family<CodeLabel, Gauge> = Family::default(), table::STOPPED;
        sessions: Family<PipelineLabel, Counter> = Family::default(), table::SESSIONS;
        retries: Family<CodeLabel, Counter> = Family::default(), table::RETRIES;
        retry_wait: HistogramFamily = Family::new_with_constructor(waits), table::RETRY_WAIT;
    }
}

/// The code that is exposed of a stopped pipeline, to be taken back when it goes on.
#[derive(Debug, Clone, Default)]
pub(super) struct ShownStop(Arc<Mutex<Option<&'static str>>>);

impl StandingFamilies {
    /// As the vitals are now.
    pub fn refresh(&self, label: &PipelineLabel, vitals: &Vitals, shown: &ShownStop) {
        let pipeline = || label.pipeline.clone();
        let (current, role) = (vitals.state(), vitals.role());
        for state in State::ALL {
            let label = StateLabel {
                pipeline: pipeline(),
                state: state.name(),
            };
            let is = i64::from(state == current);
            self.state.get_or_create(&label).set(is);
        }
        for each in Role::ALL {
            let label = RoleLabel {
                pipeline: pipeline(),
                role: each.name(),
            };
            self.role.get_or_create(&label).set(i64::from(each == role));
        }
        let ready = i64::from(vitals.readiness().ready);
        self.ready.get_or_create(label).set(ready);
        self.stopped_by(label, vitals.stopped_by(), shown);
    }

    fn stopped_by(&self, label: &PipelineLabel, code: Option<&'static str>, shown: &ShownStop) {
        let mut shown = shown.0.lock().unwrap_or_else(PoisonError::into_inner);
        let with = |code| CodeLabel {
            pipeline: label.pipeline.clone(),
            code,
        };
        if let Some(old) = shown.take() {
            self.stopped.remove(&with(old));
        }
        if let Some(code) = code {
            self.stopped.get_or_create(&with(code)).set(1);
        }
        *shown = code;
    }

    /// A session begins.
    pub fn session(&self, label: &PipelineLabel) {
        self.sessions.get_or_create(label).inc();
    }

    /// A session ended with a passing failure, and the next one begins after `wait`.
    pub fn retried(&self, label: &PipelineLabel, code: &'static str, wait: Duration) {
        let with_code = CodeLabel {
            pipeline: label.pipeline.clone(),
            code,
        };
        self.retries.get_or_create(&with_code).inc();
        let waits = self.retry_wait.get_or_create(label);
        waits.observe(wait.as_secs_f64());
    }
}
