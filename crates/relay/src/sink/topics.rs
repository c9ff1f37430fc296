//! Which topics exist, by a request that asks for all of them: naming one could create it on brokers
//! that allow that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;

use super::checkpoints::PARTITIONS;
use super::{complaints, kafka};
use crate::config::Pipeline;
use crate::failure::Failure;

const PATIENCE: Duration = Duration::from_secs(10);

/// The topics of the cluster as last seen, with their partition counts.
#[derive(Clone)]
pub struct Directory {
    config: ClientConfig,
    checkpoint_topic: String,
    topics: Arc<Mutex<HashMap<String, usize>>>,
}

impl Directory {
    /// Asks the brokers.
    pub async fn connect(pipeline: &Pipeline) -> Result<Self, Failure> {
        let directory = Self {
            config: kafka::client_config(pipeline),
            checkpoint_topic: pipeline.kafka.checkpoint_topic.clone(),
            topics: Arc::default(),
        };
        let asking = directory.clone();
        let asked = tokio::task::spawn_blocking(move || asking.refresh()).await;
        asked.map_err(|e| Failure::caused("internal", "asking for topics", &e))??;
        Ok(directory)
    }

    fn refresh(&self) -> Result<(), Failure> {
        let metadata = complaints::metadata(&self.config, PATIENCE)?;
        let found = metadata
            .topics()
            .iter()
            .map(|t| (t.name().to_owned(), t.partitions().len()));
        *self.topics.lock().unwrap_or_else(PoisonError::into_inner) = found.collect();
        Ok(())
    }

    /// Partitions of a topic, if it exists.
    pub fn partitions(&self, topic: &str) -> Option<usize> {
        self.topics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(topic)
            .copied()
    }

    /// The checkpoint topic must exist and have its partitions.
    pub fn require_checkpoint_topic(&self) -> Result<(), Failure> {
        let topic = &self.checkpoint_topic;
        match self.partitions(topic) {
            Some(PARTITIONS) => Ok(()),
            Some(count) => Err(Failure::new(
                "checkpoint-topic",
                format!("checkpoint topic {topic} has {count} partitions instead of {PARTITIONS}"),
            )),
            None => Err(Failure::new(
                "topic-missing",
                format!("checkpoint topic {topic} does not exist: run `outboxd init --apply`"),
            )),
        }
    }
}
