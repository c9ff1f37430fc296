//! Log lines to a collector: those that are written to standard error, and no others.

use std::thread;

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::outage::Watched;
use super::{Collector, LAST_EXPORT};

/// The thread of the HTTP client. Those that export silence themselves.
const CLIENT_THREAD: &str = "reqwest-internal-sync-runtime";

/// Exports lines from a thread of its own with a bounded queue, which drops lines rather than hold up whoever
/// logs.
pub struct LogExport {
    provider: SdkLoggerProvider,
}

impl LogExport {
    /// Starts exporting.
    ///
    /// # Errors
    /// The endpoint is no URL.
    pub fn start(collector: &Collector) -> Result<Self, String> {
        let exporter = LogExporter::builder()
            .with_http()
            .with_http_client(collector.client.clone())
            .with_endpoint(collector.url("logs"))
            .build()
            .map_err(|e| format!("otlp.endpoint: {e}"))?;
        let provider = SdkLoggerProvider::builder()
            .with_batch_exporter(Watched::new("logs", exporter))
            .with_resource(collector.resource.clone())
            .build();
        Ok(Self { provider })
    }

    /// What hands lines over.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        NotItsOwn(OpenTelemetryTracingBridge::new(&self.provider))
    }

    /// Exports what is left.
    pub fn end(self) {
        if let Err(e) = self.provider.shutdown_with_timeout(LAST_EXPORT) {
            tracing::warn!(error = %e, "the last log lines were not exported");
        }
    }
}

/// Hands over all lines but those that exporting brings about: each export would be followed by another.
struct NotItsOwn<L>(L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for NotItsOwn<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if thread::current().name() != Some(CLIENT_THREAD) {
            self.0.on_event(event, context);
        }
    }
}
