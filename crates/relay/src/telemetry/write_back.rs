//! Metrics of write-back and retention.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::labels::{CodeLabel, HistogramFamily, PipelineLabel};
use super::table::{self, families};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabel {
    pipeline: String,
    outcome: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

families! {
    pub(super) struct WriteBackFamilies {
        rows: Family<OutcomeLabel, Counter> = Family::default(), table::WRITE_BACK_ROWS;
        batch_seconds: HistogramFamily = Family::new_with_constructor(seconds), table::WRITE_BACK_DURATION;
        pending: Family<PipelineLabel, Gauge> = Family::default(), table::WRITE_BACK_PENDING;
        errors: Family<CodeLabel, Counter> = Family::default(), table::WRITE_BACK_ERRORS;
        pruned: Family<PipelineLabel, Counter> = Family::default(), table::PRUNED_ROWS;
    }
}

impl WriteBackFamilies {
    /// The part of one pipeline.
    pub fn of(&self, pipeline: &str) -> WriteBackMetrics {
        WriteBackMetrics {
            pipeline: pipeline.to_owned(),
            families: self.clone(),
        }
    }
}

/// What one pipeline's write-back and retention count.
#[derive(Clone)]
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
