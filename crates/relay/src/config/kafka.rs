//! How to reach Kafka and what the relay owns there.

use std::collections::BTreeMap;
use std::time::Duration;

use super::secret::Secret;

/// Brokers, the relay's own names in them, and what is passed through to librdkafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// Brokers to ask first: `host:port`, separated by commas. Empty only with the stdout sink.
    pub bootstrap: String,
    /// Topic of this pipeline's checkpoints, with the pipeline's name filled in.
    pub checkpoint_topic: String,
    /// Beginning of the transactional ids, with the pipeline's name filled in.
    pub transactional_id_prefix: String,
    /// After this time the coordinator aborts a transaction that was left open.
    pub transaction_timeout: Duration,
    /// Settings that go to librdkafka as they are. Those that would break a guarantee have been
    /// refused on loading.
    pub properties: BTreeMap<String, Property>,
    /// How `init` creates topics.
    pub topics: TopicDefaults,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            bootstrap: "localhost:9092".into(),
            checkpoint_topic: "outboxd.checkpoint.outbox".into(),
            transactional_id_prefix: "outboxd.outbox".into(),
            transaction_timeout: Duration::from_secs(30),
            properties: BTreeMap::new(),
            topics: TopicDefaults::default(),
        }
    }
}

/// The value of a librdkafka property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// A setting that may be shown.
    Plain(String),
    /// A password or key, by its name or because it came from an environment variable or a file.
    Secret(Secret),
}

impl Property {
    /// The value to hand to a new client: a secret that stands in a file is read again.
    pub fn current(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Secret(secret) => secret.current().expose().to_owned(),
        }
    }

    /// The value to hand to librdkafka.
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

/// How `init` creates event topics. The checkpoint topic always has one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDefaults {
    /// Partitions of an event topic.
    pub partitions: i32,
    /// Replicas of each partition; `None` means 3, or fewer where there are fewer brokers.
    pub replication_factor: Option<i32>,
    /// `min.insync.replicas`; `None` means one less than the replicas, at least 1.
    pub min_insync_replicas: Option<i32>,
}

impl Default for TopicDefaults {
    fn default() -> Self {
        Self {
            partitions: 6,
            replication_factor: None,
            min_insync_replicas: None,
        }
    }
}
