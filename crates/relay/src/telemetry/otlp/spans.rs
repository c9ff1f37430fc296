//! A span for each published event, in the trace of the service that wrote it.
//!
//! ```text
//!  service's span ──► row's headers.traceparent ──► Kafka header traceparent ──► consumer's span
//!                                 └──► publish TOPIC (from the commit in Postgres to the commit in Kafka)
//! ```
//!
//! The header itself goes on unchanged: a row always becomes the same record, also when it is published by
//! another relay after a crash. So the relay's span and the consumer's are siblings in one trace.
//! Names are those of the semantic conventions for messaging (opentelemetry.io, semconv 1.37).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use envelope::dead_letter::{self, text};
use envelope::{Fate, Record, RecordBatch};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use super::outage::Watched;
use super::{Collector, LAST_EXPORT};
use crate::config::Pipeline;
use crate::telemetry::is_streamed;

const TRACEPARENT: &str = "traceparent";

/// Makes and exports spans. Clones share one exporter: a thread of its own with a bounded queue, which drops
/// spans rather than hold events up.
#[derive(Clone)]
pub struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: Arc<TraceContextPropagator>,
    samples_new: bool,
}

impl Spans {
    /// Starts exporting; of the events without a trace of their own, `sample_ratio` get one.
    ///
    /// # Errors
    /// The endpoint is no URL.
    pub fn start(collector: &Collector, sample_ratio: f64) -> Result<Self, String> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(collector.client.clone())
            .with_endpoint(collector.url("traces"))
            .build()
            .map_err(|e| format!("otlp.endpoint: {e}"))?;
        let sampler = Sampler::TraceIdRatioBased(sample_ratio);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Watched::new("traces", exporter))
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_resource(collector.resource.clone())
            .build();
        Ok(Self {
            tracer: provider.tracer("outboxd"),
            provider,
            propagator: Arc::default(),
            samples_new: sample_ratio > 0.0,
        })
    }

    /// A window is durable.
    pub fn published(&self, pipeline: &Pipeline, batch: &RecordBatch) {
        let now = SystemTime::now();
        for record in batch.iter().filter(|record| record.fate != Fate::None) {
            if let Some(parent) = self.parent(&record) {
                self.publish(pipeline, &record, &parent, now);
            }
        }
    }

    /// The context that the event came with, if a span may come of it.
    fn parent(&self, record: &Record<'_>) -> Option<Context> {
        if record.header(TRACEPARENT).is_none() {
            return self.samples_new.then(Context::new);
        }
        let parent = self
            .propagator
            .extract_with_context(&Context::new(), &Carrier(record));
        let context = parent.span().span_context().clone();
        let wanted = match context.is_valid() {
            true => context.is_sampled(),
            false => self.samples_new,
        };
        wanted.then_some(parent)
    }

    fn publish(&self, pipeline: &Pipeline, record: &Record<'_>, parent: &Context, now: SystemTime) {
        let attributes = attributes(pipeline, record);
        let mut span = self
            .tracer
            .span_builder(format!("publish {}", record.topic))
            .with_kind(SpanKind::Producer)
            .with_start_time(began(record, now))
            .with_attributes(attributes)
            .start_with_context(&self.tracer, parent);
        if matches!(record.fate, Fate::Dead { .. }) {
            let class = text(record, dead_letter::CLASS).to_owned();
            span.set_attribute(KeyValue::new("error.type", class));
            span.set_status(Status::error(text(record, dead_letter::REASON).to_owned()));
        }
        span.end_with_timestamp(now);
    }

    /// Exports what is left.
    pub fn end(&self) {
        if let Err(e) = self.provider.shutdown_with_timeout(LAST_EXPORT) {
            tracing::warn!(error = %e, "the last spans were not exported");
        }
    }
}

/// The commit in Postgres; what is published beside the stream begins when it is published.
fn began(record: &Record<'_>, now: SystemTime) -> SystemTime {
    let micros = u64::try_from(record.commit_time.unix_micros()).unwrap_or_default();
    let committed = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
    match is_streamed(record) {
        true => committed.min(now),
        false => now,
    }
}

fn attributes(pipeline: &Pipeline, record: &Record<'_>) -> Vec<KeyValue> {
    let mut all = vec![
        KeyValue::new("messaging.system", "kafka"),
        KeyValue::new("messaging.operation.name", "publish"),
        KeyValue::new("messaging.operation.type", "send"),
        KeyValue::new("messaging.destination.name", record.topic.to_owned()),
        KeyValue::new("messaging.message.id", record.event_id.to_owned()),
        KeyValue::new("outboxd.event.type", record.event_type.to_owned()),
        KeyValue::new("outboxd.pipeline", pipeline.name.clone()),
        KeyValue::new("outboxd.position", record.position.to_string()),
    ];
    if let Some(id) = record.transfer_id {
        all.push(KeyValue::new(
            "messaging.message.conversation_id",
            id.to_owned(),
        ));
    }
    if let Some(size) = record
        .value
        .and_then(|value| i64::try_from(value.len()).ok())
    {
        all.push(KeyValue::new("messaging.message.body.size", size));
    }
    all
}

/// The record's headers, for the propagator.
struct Carrier<'a>(&'a Record<'a>);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.0.header(key)?).ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.headers().map(|(name, _)| name).collect()
    }
}
