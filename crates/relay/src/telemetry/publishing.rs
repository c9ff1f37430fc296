//! What is published, in metrics.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envelope::{Fate, Record, RecordBatch};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::activity::Published;
use super::labels::{HistogramFamily, PipelineLabel, as_gauge};
use super::table::{self, families};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TopicLabel {
    pipeline: String,
    topic: String,
}

fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 21))
}

fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 18))
}

families! {
    pub(super) struct PublishingFamilies {
        events: Family<TopicLabel, Counter> = Family::default(), table::EVENTS;
        bytes: Family<TopicLabel, Counter> = Family::default(), table::BYTES;
        latency: HistogramFamily = Family::new_with_constructor(latency), table::LATENCY;
        window_events: HistogramFamily = Family::new_with_constructor(sizes), table::WINDOW_EVENTS;
        window_seconds: HistogramFamily = Family::new_with_constructor(latency), table::WINDOW_DURATION;
        in_flight: Family<PipelineLabel, Gauge> = Family::default(), table::IN_FLIGHT;
        in_flight_peak: Family<PipelineLabel, Gauge> = Family::default(), table::IN_FLIGHT_PEAK;
    }
}

impl PublishingFamilies {
    /// A window is on its way.
    pub fn window(&self, label: &PipelineLabel, batch: &RecordBatch) {
        if !batch.is_empty() {
            let events = self.window_events.get_or_create(label);
            events.observe(batch.len() as f64);
        }
    }

    /// Windows in flight.
    pub fn flight(&self, label: &PipelineLabel, windows: usize) {
        let windows = as_gauge(windows as u64);
        self.in_flight.get_or_create(label).set(windows);
        let peak = self.in_flight_peak.get_or_create(label);
        peak.set(peak.get().max(windows));
    }

    /// A window that is not empty is durable; what of it the status page shows.
    pub fn published(
        &self,
        label: &PipelineLabel,
        batch: &RecordBatch,
        took: Duration,
    ) -> Published {
        let window_seconds = self.window_seconds.get_or_create(label);
        window_seconds.observe(took.as_secs_f64());
        let now_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros();
        let now_us = i64::try_from(now_us).unwrap_or(i64::MAX);
        let latency = self.latency.get_or_create(label);
        let mut run = Run::default();
        let mut window = Published::default();
        for record in batch.iter().filter(|record| record.fate != Fate::None) {
            if is_streamed(&record) {
                let age_us = now_us
                    .saturating_sub(record.commit_time.unix_micros())
                    .max(0);
                let age_seconds = age_us as f64 / 1e6;
                latency.observe(age_seconds);
                window.latencies.observe(age_seconds);
            }
            window.events += 1;
            window.dead_letters += u64::from(matches!(record.fate, Fate::Dead { .. }));
            let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            if run.topic != record.topic {
                self.count(label, &run);
                run = Run {
                    topic: record.topic,
                    events: 0,
                    bytes: 0,
                };
            }
            run.events += 1;
            run.bytes += bytes as u64;
        }
        self.count(label, &run);
        window
    }

    fn count(&self, label: &PipelineLabel, run: &Run<'_>) {
        if run.events == 0 {
            return;
        }
        let label = TopicLabel {
            pipeline: label.pipeline.clone(),
            topic: run.topic.to_owned(),
        };
        self.events.get_or_create(&label).inc_by(run.events);
        self.bytes.get_or_create(&label).inc_by(run.bytes);
    }
}

/// Neighbouring events of one topic.
#[derive(Default)]
struct Run<'a> {
    topic: &'a str,
    events: u64,
    bytes: u64,
}

/// The record is that of a row from the stream, and not one that is published beside it.
pub(crate) fn is_streamed(record: &Record<'_>) -> bool {
    record.xid != 0 && !matches!(record.fate, Fate::None | Fate::Revived)
}
