//! What others may do to the checkpoint topic. Not a scenario: several use it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::cluster;
use crate::stage::Stage;

/// The checkpoint topic of a stage's relay.
pub(super) const CHECKPOINTS: &str = "outboxd.checkpoint.outbox";
const WITHIN: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(50);

fn config(stage: &Stage) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", stage.kafka.bootstrap());
    config
}

/// Deletes the topic.
pub(super) async fn delete(stage: &Stage) -> Result<()> {
    cluster::delete_topic(&stage.bootstrap(), CHECKPOINTS).await
}

/// Makes the topic again, as `init` does.
pub(super) async fn create(stage: &Stage) -> Result<()> {
    cluster::create_compacted(&stage.bootstrap(), CHECKPOINTS).await
}

/// Changes settings of the topic with Kafka's own tool.
pub(super) fn configure(stage: &Stage, settings: &str) -> Result<()> {
    let mut tool = stage.kafka.tool("kafka.admin.ConfigCommand")?;
    tool.args(["--bootstrap-server", &stage.kafka.bootstrap(), "--alter"]);
    tool.args(["--entity-type", "topics", "--entity-name", CHECKPOINTS]);
    let output = tool.args(["--add-config", settings]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{settings}: {said}");
    Ok(())
}

/// First and next offset of the topic, counting markers and what is aborted.
pub(super) fn offsets(stage: &Stage) -> Result<(i64, i64)> {
    let consumer: BaseConsumer = config(stage)
        .set("isolation.level", "read_uncommitted")
        .create()?;
    Ok(consumer.fetch_watermarks(CHECKPOINTS, 0, WITHIN)?)
}

/// The value of the newest committed record of each key.
pub(super) fn committed(stage: &Stage) -> Result<HashMap<String, Vec<u8>>> {
    let consumer: BaseConsumer = config(stage)
        .set("group.id", "checkpoints")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(CHECKPOINTS, 0, Offset::Beginning)?;
    consumer.assign(&all)?;
    let mut newest = HashMap::new();
    loop {
        match consumer.poll(WITHIN).context("the topic does not end")? {
            Ok(record) => {
                let key = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
                newest.insert(key, record.payload().unwrap_or_default().to_vec());
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => return Ok(newest),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Writes records outside of the relay.
pub(super) fn write(stage: &Stage, key: &str, value: &[u8]) -> Result<()> {
    let producer: BaseProducer = config(stage).create()?;
    let record = BaseRecord::to(CHECKPOINTS).key(key).payload(value);
    producer.send(record).map_err(|(e, _)| e)?;
    producer.flush(WITHIN)?;
    Ok(())
}

/// Leaves so many aborted transactions behind, each a record and a marker.
pub(super) fn abort(stage: &Stage, transactions: u32, value: &[u8]) -> Result<()> {
    let producer: BaseProducer = config(stage)
        .set("transactional.id", "somebody-else")
        .create()?;
    producer.init_transactions(WITHIN)?;
    for _ in 0..transactions {
        producer.begin_transaction()?;
        let record = BaseRecord::to(CHECKPOINTS).key("checkpoint").payload(value);
        producer.send(record).map_err(|(e, _)| e)?;
        // An unsent record would leave no trace in the topic.
        producer.flush(WITHIN)?;
        producer.abort_transaction(WITHIN)?;
    }
    producer.poll(STEP);
    Ok(())
}
