//! What scenarios ask the brokers for, beside the relay.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::wait;

const WITHIN: Duration = Duration::from_secs(30);

fn admin(bootstrap: &str) -> Result<AdminClient<DefaultClientContext>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    Ok(config.create()?)
}

/// All topics there are; asking creates none.
pub fn topics(bootstrap: &str) -> Result<Vec<String>> {
    let admin = admin(bootstrap)?;
    let metadata = admin.inner().fetch_metadata(None, WITHIN)?;
    let names = metadata
        .topics()
        .iter()
        .map(|topic| topic.name().to_owned());
    Ok(names.collect())
}

/// Deletes a topic, and waits until it is gone.
pub async fn delete_topic(bootstrap: &str, topic: &str) -> Result<()> {
    let admin = admin(bootstrap)?;
    for outcome in admin.delete_topics(&[topic], &AdminOptions::new()).await? {
        outcome.map_err(|(topic, code)| anyhow!("deleting {topic}: {code}"))?;
    }
    wait::until("the topic is gone", WITHIN, async || {
        Ok(!topics(bootstrap)?.iter().any(|known| known == topic))
    })
    .await
    .map(drop)
}

/// Makes a topic with two partitions that is compacted.
pub async fn create_compacted(bootstrap: &str, topic: &str) -> Result<()> {
    create_topic(bootstrap, topic, 2, &[("cleanup.policy", "compact")]).await
}

/// The replicas that the brokers have as their default: as many as there are brokers.
const REPLICAS: TopicReplication<'_> = TopicReplication::Fixed(-1);

/// Makes a topic.
pub async fn create_topic(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> Result<()> {
    let admin = admin(bootstrap)?;
    let plan = NewTopic::new(topic, partitions, REPLICAS);
    let plan = settings.iter().fold(plan, |plan, (k, v)| plan.set(k, v));
    let options = AdminOptions::new().operation_timeout(Some(WITHIN));
    for outcome in admin.create_topics([&plan], &options).await? {
        outcome.map_err(|(topic, code)| anyhow!("creating {topic}: {code}"))?;
    }
    wait::until("the topic is known", WITHIN, async || {
        Ok(topics(bootstrap)?.iter().any(|known| known == topic))
    })
    .await
    .map(drop)
}

/// One partition more for each of the topics.
pub async fn add_partitions(bootstrap: &str, topics: &[&str]) -> Result<()> {
    let admin = admin(bootstrap)?;
    let count = |topic| -> Result<usize> {
        let metadata = admin.inner().fetch_metadata(Some(topic), WITHIN)?;
        let found = metadata.topics().first().context("no metadata")?;
        Ok(found.partitions().len())
    };
    for topic in topics {
        let grown = NewPartitions::new(topic, count(topic)? + 1);
        let options = AdminOptions::new().operation_timeout(Some(WITHIN));
        for outcome in admin.create_partitions([&grown], &options).await? {
            outcome.map_err(|(topic, code)| anyhow!("{topic}: {code}"))?;
        }
    }
    Ok(())
}

/// Deletes what a partition holds.
pub async fn delete_records(bootstrap: &str, topic: &str, partition: i32) -> Result<()> {
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(topic, partition, Offset::End)?;
    // Without the client, whose thread takes the answers, none would ever come.
    let admin = admin(bootstrap)?;
    let deleted = admin.delete_records(&all, &AdminOptions::new()).await?;
    for partition in deleted.elements() {
        partition.error()?;
    }
    Ok(())
}
