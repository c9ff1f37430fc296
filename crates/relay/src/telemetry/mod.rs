//! What the outside sees: vitals for the admin endpoints, metrics, log lines and spans.

mod activity;
mod consumer_lag;
mod dead_letters;
mod labels;
mod lag;
mod logging;
mod metrics;
mod otlp;
mod outlook;
mod publishing;
mod reference;
mod repeats;
mod slot;
mod standing;
mod state;
mod stop;
mod table;
mod unconfirmed;
mod vitals;
mod write_back;

pub use activity::{Activity, Figures, Published, STEP, Step};
#[cfg(test)]
pub(crate) use consumer_lag::PROOF_LASTS;
pub(crate) use consumer_lag::now_ms;
pub use consumer_lag::{ConsumerLags, ConsumerShown, GroupLag, TopicLag};
pub use dead_letters::log_dead_letters;
pub use logging::{init as init_logging, log_published};
pub use metrics::{Metrics, PipelineMetrics};
pub use otlp::{Collector, LogExport, MetricsExport, Spans};
pub(crate) use publishing::is_streamed;
pub use reference::reference;
pub use repeats::Repeats;
pub use state::{Role, State};
pub use stop::News;
pub use table::{Exposed, Kind, METRICS, Metric};
pub use vitals::{Readiness, STALE_AFTER, Status, Vitals};
pub use write_back::WriteBackMetrics;
