//! OpenTelemetry: what is exported to a collector, by OTLP over HTTP (protobuf).
//!
//! ```text
//!  events ──► spans ────── queue of the SDK ─────────┐
//!  log lines ─► records ── queue of the SDK ─────────┤
//!  registry ─► exposition text ─► points, at times ──┼──► collector
//! ```
//!
//! A collector that is away, slow or silent holds nothing up: each has a thread of its own, and what it does
//! not get in time is lost.

mod collector;
mod exposition;
mod headers;
mod logs;
mod metrics;
mod outage;
mod points;
mod spans;

use std::time::Duration;

pub use collector::Collector;
pub use logs::LogExport;
pub use metrics::MetricsExport;
pub use spans::Spans;

/// What is not exported by then at the end is lost, for an end must not wait for a collector.
const LAST_EXPORT: Duration = Duration::from_secs(2);
const VERSION: &str = env!("CARGO_PKG_VERSION");
