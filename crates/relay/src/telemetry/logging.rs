//! Log output. Payloads never appear in it.

use std::io;

use envelope::RecordBatch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, Pipeline};

/// Starts logging to standard error.
///
/// The replication client reports its errors to the driver, which logs them once; its own lines
/// would repeat them.
pub fn init(log: &Log) -> Result<(), String> {
    let directives = format!("{},pgwire_replication=off,tokio_postgres=off", log.level);
    let filter = EnvFilter::try_new(directives).map_err(|e| format!("log.level: {e}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry.with(layer.with_target(false)).try_init(),
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
