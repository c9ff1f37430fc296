//! One pipeline: a thread of its own, on which sessions follow each other until shutdown.

mod backlog;
mod driver;
mod open;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use delivery::{Backoff, Consent, RetryPolicy};
use tokio::sync::watch as signal;

use crate::config::{Mode, Pipeline, Retry, SinkKind};
use crate::failure::{Failure, Severity};
use crate::source::catalog::SlotUse;
use crate::telemetry::{PipelineMetrics, State, Vitals};

pub use backlog::Backlog;
pub use open::bootstrap;

/// How often a stopped pipeline looks whether its cause has been repaired.
const RECHECK: Duration = Duration::from_secs(5);
/// How often a standby looks whether the slot is free. It bounds the time of a takeover, and does
/// not grow: a standby may wait for months.
const STANDBY_POLL: Duration = Duration::from_millis(500);

/// What a pipeline works with, over all its sessions.
pub struct Context {
    /// Its configuration.
    pub pipeline: Pipeline,
    /// What the operator takes the responsibility for.
    pub consent: Consent,
    /// One log line per event.
    pub log_events: bool,
    /// Time for draining at shutdown.
    pub shutdown_timeout: Duration,
    /// What /ready, /live and /status read.
    pub vitals: Arc<Vitals>,
    /// What /metrics reads.
    pub metrics: PipelineMetrics,
}

impl Context {
    /// A fresh look at the catalog.
    fn show(&self, backlog: &Backlog, slot: SlotUse) {
        self.metrics.slot(&slot);
        self.metrics.backlog(backlog);
        self.vitals.looked(slot);
    }
}

/// Runs a pipeline on a thread of its own until `shutdown` turns true.
pub fn spawn(
    context: Context,
    shutdown: signal::Receiver<bool>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let name = format!("pipeline-{}", context.pipeline.name);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new().name(name).spawn(move || {
        runtime.block_on(supervise(context, shutdown));
        // Calls to Kafka that are still blocked must not hold up the exit.
        runtime.shutdown_background();
    })
}

async fn supervise(context: Context, mut shutdown: signal::Receiver<bool>) {
    let mut backoff = Backoff::new(policy(&context.pipeline.retry));
    let mut backlog = Backlog::new(&context.pipeline.tables);
    while !*shutdown.borrow() {
        context.vitals.enter(State::Starting);
        let ended = driver::session(&context, &mut backlog, &mut shutdown).await;
        let Err(failure) = ended else {
            break;
        };
        if context.vitals.take_progressed() {
            backoff.reset();
        }
        let wait = pause(&context, &failure, &mut backoff);
        let until = Instant::now() + wait;
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }
    context.vitals.enter(State::Ended);
    tracing::info!(pipeline = context.pipeline.name, "pipeline ended");
}

fn policy(retry: &Retry) -> RetryPolicy {
    RetryPolicy {
        initial: retry.initial_backoff,
        max: retry.max_backoff,
        multiplier: retry.multiplier,
    }
}

/// Tells everybody about the failure, and how long to wait.
fn pause(context: &Context, failure: &Failure, backoff: &mut Backoff) -> Duration {
    let pipeline = context.pipeline.name.as_str();
    let code = failure.code.name;
    let repeated = context.vitals.failed(failure);
    match failure.code.severity {
        Severity::Stopped => {
            if !repeated {
                let remedy = failure.code.remedy;
                tracing::error!(
                    pipeline,
                    code,
                    error = failure.message,
                    remedy,
                    "pipeline stopped"
                );
            }
            RECHECK
        }
        Severity::Transient if context.vitals.state() == State::Standby => {
            if !repeated {
                tracing::info!(pipeline, code, reason = failure.message, "standing by");
            }
            STANDBY_POLL
        }
        Severity::Transient => {
            let attempt = backoff.failures() + 1;
            let wait = backoff.next_wait(fastrand::f64());
            context.metrics.retried(code, wait);
            let wait_ms = wait.as_millis() as u64;
            tracing::warn!(
                pipeline,
                code,
                error = failure.message,
                attempt,
                wait_ms,
                "retrying"
            );
            wait
        }
    }
}

impl Pipeline {
    /// The slot in use. Standard output gets a temporary one of its own: it must not move the slot
    /// that a relay to Kafka depends on.
    pub fn slot_name(&self) -> String {
        match self.sink {
            SinkKind::Kafka => self.postgres.slot.clone(),
            SinkKind::Stdout => format!("{}_stdout", self.postgres.slot),
        }
    }

    /// Whether a window needs a commit after its acknowledgement.
    pub fn commits_windows(&self) -> bool {
        self.sink == SinkKind::Kafka && self.mode == Mode::ExactlyOnce
    }
}
