//! Consumer groups whose lag is exported.

use std::time::Duration;

use envelope::TopicPattern;

/// One consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// Its `group.id`.
    pub group: String,
    /// The consuming service: the label of its metrics, unique in the configuration.
    pub service: String,
    /// Topics that it reads; empty for those that it has committed offsets of.
    pub topics: Vec<TopicPattern>,
    /// Where it begins in a partition that it has committed nothing of.
    pub offset_reset: OffsetReset,
}

/// Where a consumer begins without a committed offset, as its `auto.offset.reset` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// With the first record that is kept.
    #[default]
    Earliest,
    /// With what comes after it has begun: what is there does not concern it.
    Latest,
}

/// What asking for lag may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerLag {
    /// From one round of questions to the next.
    pub interval: Duration,
    /// Partitions that are read from in one round, one record each.
    pub max_fetches: usize,
}

impl Default for ConsumerLag {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            max_fetches: 100,
        }
    }
}
