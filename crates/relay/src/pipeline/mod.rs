//! One pipeline: a thread of its own, on which sessions follow each other until shutdown.

mod backlog;
mod create;
mod driver;
mod memory;
mod open;
mod service;
mod sharing;
mod standby;
mod watch;
mod yielding;

use std::sync::Arc;
use std::time::Duration;

use delivery::{Backoff, Consent};
use tokio::sync::watch as signal;

use crate::config::{Mode, Pipeline, SinkKind};
use crate::consumer_lag;
use crate::failure::{Failure, Severity};
use crate::source::catalog::SlotUse;
use crate::telemetry::{News, PipelineMetrics, Spans, State, Vitals};

pub use backlog::Backlog;
pub use create::{drop_slot, feed_of};
pub use open::bootstrap;
pub use sharing::Sharing;

use memory::Memory;

/// How often a stopped pipeline looks whether its cause has been repaired.
const RECHECK: Duration = Duration::from_secs(5);

/// What a pipeline works with, over all its sessions.
pub struct Context {
    /// Its configuration.
    pub pipeline: Pipeline,
    /// What the operator takes the responsibility for.
    pub consent: Consent,
    /// One log line per event.
    pub log_events: bool,
    /// A span per event.
    pub spans: Option<Spans>,
    /// With how many it shares the process.
    pub sharing: Sharing,
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
    consumer_lag::spawn(&context.pipeline, &context.vitals)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new().name(name).spawn(move || {
        let _alarm = Alarm(Arc::clone(&context.vitals));
        runtime.block_on(supervise(context, shutdown));
        // Calls to Kafka that are still blocked must not hold up the exit.
        runtime.shutdown_background();
    })
}

/// Makes it known when the thread that owns it panics: nobody waits for that thread before shutdown.
struct Alarm(Arc<Vitals>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked();
        }
    }
}

async fn supervise(context: Context, mut shutdown: signal::Receiver<bool>) {
    let mut backoff = Backoff::new(context.pipeline.retry.policy());
    let mut backlog = Backlog::new(&context.pipeline.tables);
    let mut memory = Memory::default();
    while !*shutdown.borrow() {
        context.vitals.enter(State::Starting);
        let ended = driver::session(&context, &mut backlog, &mut memory, &mut shutdown).await;
        let Err(failure) = ended else {
            break;
        };
        context.vitals.released(&failure);
        if failure.stands_by() {
            // Another relay publishes: what was counted here is soon old.
            backlog = Backlog::new(&context.pipeline.tables);
            context.metrics.leave_to_another();
        }
        if context.vitals.take_progressed() {
            backoff.reset();
        }
        tokio::select! {
            () = pause(&context, &failure, &mut backoff) => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }
    context.vitals.enter(State::Ended);
    tracing::info!(pipeline = context.pipeline.name, "pipeline ended");
}

/// Tells everybody about the failure, and waits until the next session is due.
async fn pause(context: &Context, failure: &Failure, backoff: &mut Backoff) {
    let pipeline = context.pipeline.name.as_str();
    let Failure { code, message } = failure;
    match code.severity {
        Severity::StandBy => standby::stand_by(context, failure).await,
        Severity::StartOver => {
            tracing::info!(
                pipeline,
                code = code.name,
                reason = message,
                "starting over"
            );
        }
        Severity::Stopped => {
            say_stopped(pipeline, failure, context.vitals.failed(failure));
            tokio::time::sleep(RECHECK).await;
        }
        Severity::Transient => {
            context.vitals.failed(failure);
            let attempt = backoff.failures() + 1;
            let wait = backoff.next_wait(fastrand::f64());
            context.metrics.retried(code.name, wait);
            let wait_ms = wait.as_millis() as u64;
            tracing::warn!(
                pipeline,
                code = code.name,
                error = message,
                attempt,
                wait_ms,
                "retrying"
            );
            tokio::time::sleep(wait).await;
        }
    }
}

fn say_stopped(pipeline: &str, failure: &Failure, news: News) {
    let Failure { code, message } = failure;
    let (error, remedy, code) = (message, code.remedy, code.name);
    match news {
        News::First => tracing::error!(pipeline, code, error, remedy, "pipeline stopped"),
        News::Still { stopped, met } => {
            let stopped_s = stopped.as_secs();
            tracing::error!(
                pipeline,
                code,
                error,
                remedy,
                stopped_s,
                times_met = met,
                "pipeline still stopped"
            );
        }
        News::Known => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_raises_the_alarm() {
        let vitals = Arc::new(Vitals::new(&Pipeline::default()));
        let run = |fails: bool| {
            let alarm = Alarm(Arc::clone(&vitals));
            let thread = std::thread::spawn(move || {
                let _alarm = alarm;
                assert!(!fails, "on purpose");
            });
            assert_eq!(thread.join().is_err(), fails);
        };
        run(false);
        assert!(vitals.is_alive());
        run(true);
        assert!(!vitals.is_alive());
    }
}
