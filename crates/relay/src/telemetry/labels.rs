//! What metrics of several kinds have in common: labels and the shapes of families.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PipelineLabel {
    pub pipeline: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CodeLabel {
    pub pipeline: String,
    pub code: &'static str,
}

pub(super) type FloatGauge = Gauge<f64, AtomicU64>;

/// Histograms need to be told how to begin.
pub(super) type HistogramFamily = Family<PipelineLabel, Histogram, fn() -> Histogram>;

pub(super) fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
