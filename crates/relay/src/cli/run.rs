//! `outboxd run`.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Args;
use delivery::{Consent, Fingerprint};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{Exit, Settings};
use crate::admin::{self, Shown, Tls};
use crate::config::{Admin, Config, SinkKind};
use crate::failure;
use crate::pipeline::{self, Context};
use crate::telemetry::{Metrics, Spans, Vitals, init_logging};

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
    init_logging(&config.log).map_err(|e| {
        eprintln!("outboxd: {e}");
        Exit::Config
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("admin")
        .enable_all()
        .build()
        .map_err(|e| {
            tracing::error!(error = %e, "the runtime could not be started");
            Exit::Failure
        })?;
    let consent = Consent {
        adopt_slot: args.adopt_slot,
        publication: args.accept_publication,
        exceptions: args.accept_exceptions,
    };
    let spans = Spans::start(&config.otlp).map_err(|e| {
        tracing::error!(error = e, "traces can't be exported: correct otlp.endpoint");
        Exit::Config
    })?;
    let outcome = runtime.block_on(serve(&config, consent, spans.clone()));
    runtime.shutdown_background();
    if let Some(spans) = spans {
        spans.end();
    }
    outcome
}

async fn serve(config: &Config, consent: Consent, spans: Option<Spans>) -> Result<(), Exit> {
    let (shutdown_tx, shutdown) = watch::channel(false);
    let metrics = Metrics::new();
    let contexts: Vec<Context> = config
        .pipelines
        .iter()
        .map(|pipeline| Context {
            consent,
            log_events: config.log.events,
            spans: spans.clone(),
            shutdown_timeout: config.shutdown_timeout,
            vitals: Arc::new(Vitals::new(pipeline)),
            metrics: metrics.pipeline(pipeline),
            pipeline: pipeline.clone(),
        })
        .collect();
    let shown = contexts
        .iter()
        .map(|c| (Arc::clone(&c.vitals), c.metrics.clone()))
        .collect();
    start_admin(config, Shown::new(metrics, shown)).await?;
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
