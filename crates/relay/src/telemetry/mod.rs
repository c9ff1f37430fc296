//! What the outside sees: vitals for the admin endpoints, metrics, and log lines.

mod consumer_lag;
mod dead_letters;
mod labels;
mod lag;
mod logging;
mod metrics;
mod outlook;
mod state;
mod stop;
mod unconfirmed;
mod vitals;
mod write_back;

pub(crate) use consumer_lag::now_ms;
pub use consumer_lag::{ConsumerLags, ConsumerShown, GroupLag, TopicLag};
pub use dead_letters::log_dead_letters;
pub use logging::{init as init_logging, log_published};
pub(crate) use metrics::is_streamed;
pub use metrics::{Metrics, PipelineMetrics};
pub use state::{Role, State};
pub use stop::News;
pub use vitals::{Readiness, STALE_AFTER, Status, Vitals};
pub use write_back::WriteBackMetrics;
