//! Consumers by the library, beside the servers of a stage.

use std::sync::Arc;

use anyhow::{Context, Result};
use deadpool_postgres::{Manager, Pool};
use inbox::{Consumer, ConsumerBuilder, Error, Handlers};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

use crate::cluster;
use crate::stage::{DATABASE, Stage};

const FLUSH_WITHIN: Duration = Duration::from_secs(60);

/// The table of consumers that claim events, and its function.
pub const INBOX: &str = include_str!("../../sql/inbox.sql");

/// Makes the tables of a consumer, and its dead-letter topic.
pub async fn prepare(stage: &Stage, name: &str) -> Result<()> {
    for sql in [
        INBOX,
        "CREATE TABLE entries (event_id text, transfer_id text, amount bigint)",
    ] {
        stage.postgres.sql(DATABASE, sql)?;
    }
    cluster::create_topic(&stage.bootstrap(), &format!("{name}.dead-letter"), 1, &[]).await
}

/// A consumer of this name that reads these topics.
pub fn consumer(
    stage: &Stage,
    name: &str,
    topics: &[&str],
    handlers: Handlers,
) -> Result<ConsumerBuilder> {
    let manager = Manager::new(stage.url().parse()?, NoTls);
    Ok(Consumer::builder(name)
        .brokers(stage.bootstrap())
        .topics(topics.iter().copied())
        .database(Pool::builder(manager).max_size(8).build()?)
        .handlers(handlers))
}

/// A consumer that runs.
pub struct Running {
    stop: Arc<Notify>,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Starts it.
    pub fn start(builder: ConsumerBuilder) -> Result<Self> {
        let consumer = builder.build()?;
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let run = async move { consumer.run_until(stopped.notified()).await };
        let task = tokio::spawn(run);
        Ok(Self { stop, task })
    }

    /// Lets it drain.
    pub async fn stop(self) -> Result<()> {
        self.stop.notify_one();
        Ok(self.task.await??)
    }
}

/// Produces events with these numbers, as often as they are there, without the relay.
pub fn produce(stage: &Stage, topic: &str, numbers: impl Iterator<Item = u32>) -> Result<()> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", stage.bootstrap())
        .set("enable.idempotence", "true")
        .set("linger.ms", "20");
    let producer: ThreadedProducer<_> = config.create()?;
    for number in numbers {
        let key = format!("t-{}", number % 1000);
        let value = format!(
            r#"{{"eventId":"e-{number}","type":"transfers.settled","occurredAt":"2026-11-23T10:51:19.000000Z","transferId":"{key}","payload":{{"amount":{number}}}}}"#
        );
        let mut record = BaseRecord::to(topic).key(&key).payload(&value);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((error, back))
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) =>
                {
                    producer.flush(FLUSH_WITHIN)?;
                    record = back;
                }
                Err((error, _)) => return Err(error).context("producing an event"),
            }
        }
    }
    Ok(producer.flush(FLUSH_WITHIN)?)
}
