//! What the outside sees: vitals for the admin endpoints, metrics, and log lines.

mod lag;
mod logging;
mod metrics;
mod outlook;
mod state;
mod unconfirmed;
mod vitals;
mod write_back;

pub use logging::{init as init_logging, log_published};
pub use metrics::{Metrics, PipelineMetrics};
pub use state::State;
pub use vitals::{Readiness, STALE_AFTER, Status, Vitals};
pub use write_back::WriteBackMetrics;
