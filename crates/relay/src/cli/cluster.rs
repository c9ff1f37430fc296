//! The Kafka cluster as the operator commands see it.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};

use crate::config::Pipeline;
use crate::failure::Failure;
use crate::sink::{complaints, kafka};

/// How long the brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The brokers and their topics as of one look.
pub(super) struct Cluster {
    admin: AdminClient<DefaultClientContext>,
    /// `host:port` of each.
    pub brokers: Vec<String>,
    /// The id of each.
    pub broker_ids: Vec<i32>,
    pub topics: BTreeMap<String, Topic>,
}

/// A topic's partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Topic {
    pub partitions: usize,
    /// Of the partition that has the fewest.
    pub replicas: usize,
    /// Of the partition that has the fewest.
    pub in_sync: usize,
    /// Partitions that nobody leads.
    pub leaderless: usize,
}

/// Settings in force, also those that come from the brokers' defaults.
pub(super) type Settings = BTreeMap<String, String>;

impl Cluster {
    /// Asks the brokers for all topics: naming one could create it.
    pub async fn connect(pipeline: &Pipeline) -> Result<Self, Failure> {
        let config = kafka::client_config(pipeline);
        let admin = config
            .create()
            .map_err(|e| kafka::failure("creating a Kafka client", &e))?;
        let asking = tokio::task::spawn_blocking(move || complaints::metadata(&config, PATIENCE));
        let metadata = asking
            .await
            .map_err(|e| Failure::caused("internal", "asking the brokers", &e))??;
        Ok(Self {
            admin,
            brokers: brokers(&metadata),
            broker_ids: metadata.brokers().iter().map(|b| b.id()).collect(),
            topics: topics(&metadata),
        })
    }

    /// The settings of topics; those that may not be read are left out.
    pub async fn settings(&self, topics: &[&str]) -> Result<BTreeMap<String, Settings>, Failure> {
        // librdkafka refuses an empty request.
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let resources: Vec<_> = topics
            .iter()
            .map(|name| ResourceSpecifier::Topic(name))
            .collect();
        let described = self.admin.describe_configs(&resources, &options()).await;
        let described =
            described.map_err(|e| kafka::failure("reading the settings of topics", &e))?;
        let readable = described.into_iter().flatten();
        Ok(readable.filter_map(settings_of_topic).collect())
    }

    /// The client for changes.
    pub fn admin(&self) -> &AdminClient<DefaultClientContext> {
        &self.admin
    }
}

/// Options of every request.
pub(super) fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE))
}

/// An answer to an admin request as a failure.
pub(super) fn refusal(attempt: &str, code: RDKafkaErrorCode) -> Failure {
    kafka::failure(attempt, &KafkaError::Global(code))
}

fn settings_of_topic(resource: ConfigResource) -> Option<(String, Settings)> {
    let OwnedResourceSpecifier::Topic(name) = resource.specifier else {
        return None;
    };
    let entries = resource.entries.into_iter();
    let settings = entries.filter_map(|entry| Some((entry.name, entry.value?)));
    Some((name, settings.collect()))
}

fn brokers(metadata: &Metadata) -> Vec<String> {
    let brokers = metadata.brokers().iter();
    brokers
        .map(|b| format!("{}:{}", b.host(), b.port()))
        .collect()
}

fn topics(metadata: &Metadata) -> BTreeMap<String, Topic> {
    let topics = metadata.topics().iter();
    topics.map(|t| (t.name().to_owned(), topic(t))).collect()
}

fn topic(topic: &MetadataTopic) -> Topic {
    let partitions = topic.partitions();
    Topic {
        partitions: partitions.len(),
        replicas: partitions
            .iter()
            .map(|p| p.replicas().len())
            .min()
            .unwrap_or(0),
        in_sync: partitions.iter().map(|p| p.isr().len()).min().unwrap_or(0),
        leaderless: partitions.iter().filter(|p| p.leader() < 0).count(),
    }
}
