//! Metrics of write-back and retention.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::labels::{CodeLabel, PipelineLabel};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    pipeline: String,
    outcome: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

#[derive(Debug, Clone)]
pub(super) struct WriteBackFamilies {
    rows: Family<OutcomeLabel, Counter>,
    batch_seconds: Family<PipelineLabel, Histogram, fn() -> Histogram>,
    pending: Family<PipelineLabel, Gauge>,
    errors: Family<CodeLabel, Counter>,
    pruned: Family<PipelineLabel, Counter>,
}

impl WriteBackFamilies {
    pub fn new() -> Self {
        Self {
            rows: Family::default(),
            batch_seconds: Family::new_with_constructor(seconds),
            pending: Family::default(),
            errors: Family::default(),
            pruned: Family::default(),
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "outboxd_write_back_rows",
            "Rows whose state was written, by outcome; passed-over ones were gone or not pending",
            self.rows.clone(),
        );
        registry.register_with_unit(
            "outboxd_write_back_duration",
            "Writing one batch of states",
            Unit::Seconds,
            self.batch_seconds.clone(),
        );
        registry.register(
            "outboxd_write_back_pending",
            "Rows that wait for their state to be written",
            self.pending.clone(),
        );
        registry.register(
            "outboxd_write_back_errors",
            "Tries to write states that failed, by error code",
            self.errors.clone(),
        );
        registry.register(
            "outboxd_pruned_rows",
            "Published rows removed by retention",
            self.pruned.clone(),
        );
    }

    pub fn of(&self, pipeline: &str) -> WriteBackMetrics {
        WriteBackMetrics {
            pipeline: pipeline.to_owned(),
            families: self.clone(),
        }
    }
}

/// What one pipeline's write-back and retention count.
#[derive(Debug, Clone)]
pub struct WriteBackMetrics {
    pipeline: String,
    families: WriteBackFamilies,
}

impl WriteBackMetrics {
    fn label(&self) -> PipelineLabel {
        PipelineLabel {
            pipeline: self.pipeline.clone(),
        }
    }

    /// Rows were updated, or were not there to be updated.
    pub fn wrote(&self, sent: u64, failed: u64, passed_over: u64) {
        let outcomes = [
            ("sent", sent),
            ("failed", failed),
            ("passed-over", passed_over),
        ];
        for (outcome, rows) in outcomes.into_iter().filter(|(_, rows)| *rows > 0) {
            let label = OutcomeLabel {
                pipeline: self.pipeline.clone(),
                outcome,
            };
            self.families.rows.get_or_create(&label).inc_by(rows);
        }
    }

    /// A batch is written.
    pub fn batch(&self, took: Duration) {
        let histogram = self.families.batch_seconds.get_or_create(&self.label());
        histogram.observe(took.as_secs_f64());
    }

    /// Rows that wait.
    pub fn pending(&self, rows: usize) {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.families.pending.get_or_create(&self.label()).set(rows);
    }

    /// A try failed.
    pub fn failed(&self, code: &'static str) {
        let label = CodeLabel {
            pipeline: self.pipeline.clone(),
            code,
        };
        self.families.errors.get_or_create(&label).inc();
    }

    /// Rows were removed.
    pub fn pruned(&self, rows: u64) {
        self.families
            .pruned
            .get_or_create(&self.label())
            .inc_by(rows);
    }
}
