//! A collector that does not take what it is sent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// Says once that an export fails, and once that it works again.
#[derive(Debug)]
pub struct Outage {
    signal: &'static str,
    is_failing: AtomicBool,
}

impl Outage {
    /// None yet, for `signal`.
    pub fn of(signal: &'static str) -> Self {
        Self {
            signal,
            is_failing: AtomicBool::new(false),
        }
    }

    /// One export has ended so.
    pub fn note<E: ToString>(&self, outcome: &Result<(), E>) {
        let signal = self.signal;
        let was_failing = self.is_failing.swap(outcome.is_err(), Ordering::Relaxed);
        match outcome {
            Err(error) if !was_failing => tracing::warn!(
                signal,
                error = error.to_string(),
                "not exported for now: check the collector and otlp.endpoint"
            ),
            Ok(()) if was_failing => tracing::info!(signal, "exported again"),
            Ok(()) | Err(_) => {}
        }
    }
}

/// An exporter whose failures are said.
#[derive(Debug)]
pub struct Watched<E> {
    exporter: E,
    outage: Outage,
}

impl<E> Watched<E> {
    /// That exporter, of `signal`.
    pub fn new(signal: &'static str, exporter: E) -> Self {
        let outage = Outage::of(signal);
        Self { exporter, outage }
    }

    fn noted(&self, outcome: OTelSdkResult) -> OTelSdkResult {
        self.outage.note(&outcome);
        outcome
    }
}

impl<E: LogExporter> LogExporter for Watched<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.noted(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.noted(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
