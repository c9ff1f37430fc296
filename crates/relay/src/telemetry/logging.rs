//! Log output. Payloads never appear in it.

use std::io::{self, IsTerminal};

use envelope::RecordBatch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::{LogExport, Repeats};
use crate::config::{Log, LogFormat, Pipeline};

/// Clients that report their errors to the driver, which logs them once: their own lines would
/// repeat them, or call the end of a partition an error. And one that shows the password of a URL.
const SILENCED: &str = "pgwire_replication=off,tokio_postgres=off,librdkafka=off,rdkafka=off,\
                        hyper_util::client::legacy::pool=off";

/// Where lines about single events come from.
pub(super) const EVENTS: &str = "outboxd::events";

/// Starts logging to standard error, and to a collector if there is an `export`; what leaves out lines that
/// repeat.
pub fn init(log: &Log, export: Option<&LogExport>) -> Result<Option<Repeats>, String> {
    let directives = format!("{},{SILENCED}", log.level);
    let filter = EnvFilter::try_new(directives).map_err(|e| format!("log.level: {e}"))?;
    let is_limited = log.repeats > 0;
    let repeats = is_limited.then(|| Repeats::start(log.repeats)).transpose();
    let repeats = repeats.map_err(|e| format!("the thread of log.repeats: {e}"))?;
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(repeats.clone())
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
    started.map_err(|e| e.to_string())?;
    Ok(repeats)
}

/// One line per published event.
pub fn log_published(pipeline: &Pipeline, batch: &RecordBatch) {
    for record in batch.iter() {
        tracing::info!(
            target: EVENTS,
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
