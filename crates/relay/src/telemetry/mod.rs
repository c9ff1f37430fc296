//! What the outside sees: vitals for the admin endpoints, metrics, and log lines.

mod lag;
mod logging;
mod metrics;
mod outlook;
mod state;
mod stop;
mod unconfirmed;
mod vitals;

pub use logging::{init as init_logging, log_published};
pub use metrics::{Metrics, PipelineMetrics};
pub use state::{Role, State};
pub use stop::News;
pub use vitals::{Readiness, STALE_AFTER, Status, Vitals, stands_by};
