//! `outboxd run`.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Args;
use delivery::{Consent, Fingerprint};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{Exit, Settings};
use crate::admin::{self, Shown, Tls};
use crate::config::{Admin, Config, Otlp, SinkKind};
use crate::failure;
use crate::pipeline::{self, Context, Sharing};
use crate::telemetry::{Collector, LogExport, Metrics, MetricsExport, Spans, Vitals, init_logging};

/// What may be left to do once every pipeline has had its time to drain.
const EXIT_COURTESY: Duration = Duration::from_secs(3);

#[derive(Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    settings: Settings,
    /// Take over a slot that the checkpoint topic does not know. What it was confirmed up to
    /// before is taken as published.
    #[arg(long)]
    adopt_slot: bool,
    /// Go on with a publication that was altered or made again, as it is now; the token is in the
    /// error. Rows that were written meanwhile may be missing in the stream.
    #[arg(long, value_name = "TOKEN")]
    accept_publication: Option<Fingerprint>,
    /// Go on with the parked keys and dead rows that the checkpoint topic still holds; the token is in
    /// the error. Keys that are missing are not parked any more.
    #[arg(long, value_name = "TOKEN")]
    accept_exceptions: Option<Fingerprint>,
}

pub(super) fn run(args: &RunArgs) -> Result<(), Exit> {
    let config = args.settings.load()?;
    let collector = Collector::of(&config.otlp).map_err(|e| unloggable(&e))?;
    let logs = export_logs(&config.otlp, collector.as_ref())?;
    let repeats = init_logging(&config.log, logs.as_ref()).map_err(|e| unloggable(&e))?;
    let outcome = relay(args, &config, collector.as_ref());
    if let Some(repeats) = repeats {
        repeats.end();
    }
    // Last, so that it gets what the others log.
    if let Some(logs) = logs {
        logs.end();
    }
    outcome
}

fn relay(args: &RunArgs, config: &Config, collector: Option<&Collector>) -> Result<(), Exit> {
    let runtime = start_runtime()?;
    let consent = Consent {
        adopt_slot: args.adopt_slot,
        publication: args.accept_publication,
        exceptions: args.accept_exceptions,
    };
    let spans = export_spans(&config.otlp, collector)?;
    let metrics = Metrics::new();
    let contexts = contexts(config, consent, spans.as_ref(), &metrics);
    let shown = contexts
        .iter()
        .map(|c| (Arc::clone(&c.vitals), c.metrics.clone()))
        .collect();
    let shown = Shown::new(metrics, shown);
    let export = export_metrics(&config.otlp, collector, &shown)?;
    let outcome = runtime.block_on(serve(config, contexts, shown));
    runtime.shutdown_background();
    end_exports(spans, export);
    outcome
}

/// Without a log there is still the terminal.
fn unloggable(error: &str) -> Exit {
    eprintln!("outboxd: {error}");
    Exit::Config
}

fn start_runtime() -> Result<Runtime, Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("admin")
        .enable_all()
        .build();
    runtime.map_err(|e| {
        tracing::error!(error = %e, "the runtime could not be started");
        Exit::Failure
    })
}

fn contexts(
    config: &Config,
    consent: Consent,
    spans: Option<&Spans>,
    metrics: &Metrics,
) -> Vec<Context> {
    let pipelines = u32::try_from(config.pipelines.len()).unwrap_or(u32::MAX);
    let sharing = Sharing(pipelines);
    let contexts = config.pipelines.iter().map(|pipeline| Context {
        consent,
        sharing,
        log_events: config.log.events,
        spans: spans.cloned(),
        shutdown_timeout: config.shutdown_timeout,
        vitals: Arc::new(Vitals::new(pipeline)),
        metrics: metrics.pipeline(pipeline),
        pipeline: pipeline.clone(),
    });
    contexts.collect()
}

fn export_logs(otlp: &Otlp, collector: Option<&Collector>) -> Result<Option<LogExport>, Exit> {
    let collector = collector.filter(|_| otlp.logs);
    let started = collector.map(LogExport::start).transpose();
    started.map_err(|e| unloggable(&e))
}

fn export_spans(otlp: &Otlp, collector: Option<&Collector>) -> Result<Option<Spans>, Exit> {
    let started = collector.map(|collector| Spans::start(collector, otlp.sample_ratio));
    started.transpose().map_err(|e| {
        tracing::error!(error = e, "traces can't be exported: correct otlp.endpoint");
        Exit::Config
    })
}

fn export_metrics(
    otlp: &Otlp,
    collector: Option<&Collector>,
    shown: &Shown,
) -> Result<Option<MetricsExport>, Exit> {
    let Some(collector) = collector.filter(|_| otlp.metrics) else {
        return Ok(None);
    };
    let shown = shown.clone();
    let expose = move || shown.metrics.expose(&shown.pipelines);
    let started = MetricsExport::start(collector, otlp.metrics_interval, expose);
    started.map(Some).map_err(|e| {
        tracing::error!(error = %e, "the thread that exports metrics could not be started");
        Exit::Failure
    })
}

/// Side by side, for each waits for a collector that may be silent.
fn end_exports(spans: Option<Spans>, metrics: Option<MetricsExport>) {
    thread::scope(|scope| {
        if let Some(spans) = spans {
            scope.spawn(move || spans.end());
        }
        if let Some(metrics) = metrics {
            scope.spawn(move || metrics.end());
        }
    });
}

async fn serve(config: &Config, contexts: Vec<Context>, shown: Shown) -> Result<(), Exit> {
    let (shutdown_tx, shutdown) = watch::channel(false);
    start_admin(config, shown).await?;
    let threads = start_pipelines(contexts, &shutdown)?;
    await_signal().await;
    tracing::info!("shutting down");
    let _ = shutdown_tx.send(true);
    join(threads, config.shutdown_timeout + EXIT_COURTESY).await
}

async fn start_admin(config: &Config, shown: Shown) -> Result<(), Exit> {
    let address = config.admin.listen;
    let tls = admin_tls(&config.admin)?;
    warn_of_open_doors(&config.admin);
    let listener = admin::listen(address).await.map_err(|e| {
        tracing::error!(%address, error = %e, "the admin address can't be listened on: change admin.listen");
        Exit::Failure
    })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "admin endpoints are up");
    }
    let admin = config.admin.clone();
    tokio::spawn(async move { admin::serve(listener, shown, &admin, tls).await });
    Ok(())
}

fn admin_tls(admin: &Admin) -> Result<Option<Tls>, Exit> {
    let (Some(certificate), Some(key)) = (&admin.tls_cert, &admin.tls_key) else {
        return Ok(None);
    };
    let loaded = Tls::load(certificate, key);
    loaded.map(Some).map_err(|error| {
        let error = failure::chain(&error);
        tracing::error!(
            error,
            "the admin endpoints have no certificate: check admin.tls_cert and admin.tls_key"
        );
        Exit::Config
    })
}

/// Endpoints that others can reach are somebody's decision, but worth a line.
fn warn_of_open_doors(admin: &Admin) {
    let is_reachable = !admin.listen.ip().is_loopback();
    if is_reachable && admin.token.is_none() {
        tracing::warn!(
            address = %admin.listen,
            "everybody who reaches the admin endpoints may read them: set admin.token_file"
        );
    } else if is_reachable && admin.tls_cert.is_none() {
        tracing::warn!(
            address = %admin.listen,
            "the token of the admin endpoints travels in plain text: set admin.tls_cert and admin.tls_key"
        );
    }
}

fn start_pipelines(
    contexts: Vec<Context>,
    shutdown: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<()>>, Exit> {
    let mut threads = Vec::with_capacity(contexts.len());
    for context in contexts {
        if context.pipeline.sink == SinkKind::Stdout {
            tracing::warn!(
                "printing events to standard output: nothing is recorded, and a restart starts at the present"
            );
        }
        let started = pipeline::spawn(context, shutdown.clone());
        threads.push(started.map_err(|e| {
            tracing::error!(error = %e, "a pipeline's thread could not be started");
            Exit::Failure
        })?);
    }
    Ok(threads)
}

async fn await_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Waits for the pipelines' threads; one that is stuck in a call to Kafka is left behind.
async fn join(threads: Vec<JoinHandle<()>>, patience: Duration) -> Result<(), Exit> {
    let joining =
        tokio::task::spawn_blocking(|| threads.into_iter().all(|thread| thread.join().is_ok()));
    match tokio::time::timeout(patience, joining).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false) | Err(_)) => {
            tracing::error!("a pipeline's thread panicked");
            Err(Exit::Failure)
        }
        Err(_) => {
            tracing::warn!(
                "a pipeline did not end in time: what it had not published, the slot holds"
            );
            Ok(())
        }
    }
}
