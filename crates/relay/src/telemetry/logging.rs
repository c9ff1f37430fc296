//! Log output. Payloads never appear in it.

use std::io::{self, IsTerminal};

use envelope::RecordBatch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::LogExport;
use crate::config::{Log, LogFormat, Pipeline};

/// Clients that report their errors to the driver, which logs them once: their own lines would
/// repeat them, or call the end of a partition an error.
const SILENCED: &str = "pgwire_replication=off,tokio_postgres=off,librdkafka=off,rdkafka=off";

/// Starts logging to standard error, and to a collector if there is an `export`.
pub fn init(log: &Log, export: Option<&LogExport>) -> Result<(), String> {
    let directives = format!("{},{SILENCED}", log.level);
    let filter = EnvFilter::try_new(directives).map_err(|e| format!("log.level: {e}"))?;
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(export.map(LogExport::layer));
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry
            .with(
                layer
                    .with_target(false)
                    .with_ansi(io::stderr().is_terminal()),
            )
            .try_init(),
    };
    started.map_err(|e| e.to_string())
}

/// One line per published event.
pub fn log_published(pipeline: &Pipeline, batch: &RecordBatch) {
    for record in batch.iter() {
        tracing::info!(
            pipeline = pipeline.name,
            slot = pipeline.postgres.slot,
            eventId = record.event_id,
            transferId = record.transfer_id,
            r#type = record.event_type,
            topic = record.topic,
            lsn = %record.position.commit_lsn,
            index = record.position.index,
            "event published"
        );
    }
}
