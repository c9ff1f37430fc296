//! Reading the newest committed checkpoint.

use std::time::{Duration, Instant};

use delivery::Checkpoint;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use super::{error, kafka};
use crate::config::Pipeline;
use crate::failure::Failure;

const PARTITION: i32 = 0;
const PATIENCE: Duration = Duration::from_secs(30);
const REQUEST: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(50);
/// Offsets read from the end at first. A committed checkpoint takes two: record and marker.
const FIRST_REACH: i64 = 64;

/// The newest committed checkpoint of the pipeline.
///
/// Every producer that could write one must have been fenced before; then no transaction is open,
/// so the last stable offset reaches the high watermark. The end of the partition as the reader
/// sees it is not trusted below that: it waits until the two meet, and only then reads to the end
/// (test: scenario `checkpoint-read`).
pub async fn read_latest(pipeline: &Pipeline) -> Result<Option<Checkpoint>, Failure> {
    let config = kafka::client_config(pipeline);
    let topic = pipeline.kafka.checkpoint_topic.clone();
    let reading = tokio::task::spawn_blocking(move || Reader::open(&config, &topic)?.read());
    reading
        .await
        .map_err(|e| Failure::caused("internal", "reading the checkpoint", &e))?
}

struct Reader {
    consumer: BaseConsumer,
    topic: String,
    low: i64,
    high: i64,
    deadline: Instant,
}

impl Reader {
    fn open(config: &ClientConfig, topic: &str) -> Result<Self, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let isolated = |level: &str| -> Result<BaseConsumer, Failure> {
            let mut config = config.clone();
            config
                .set("group.id", "outboxd-checkpoint-reader")
                .set("enable.auto.commit", "false")
                .set("enable.partition.eof", "true")
                .set("fetch.wait.max.ms", "10")
                .set("isolation.level", level);
            config
                .create()
                .map_err(|e| error::client("creating a checkpoint reader", &e))
        };
        let (low, high) = watermarks(&isolated("read_uncommitted")?, topic)?;
        let consumer = isolated("read_committed")?;
        let reader = Self {
            consumer,
            topic: topic.to_owned(),
            low,
            high,
            deadline,
        };
        reader.await_stable()?;
        Ok(reader)
    }

    /// Waits until everything below the high watermark is settled.
    fn await_stable(&self) -> Result<(), Failure> {
        loop {
            let (_, stable) = watermarks(&self.consumer, &self.topic)?;
            if stable >= self.high {
                return Ok(());
            }
            if Instant::now() > self.deadline {
                let message = format!(
                    "{}: a transaction below offset {} is still open",
                    self.topic, self.high
                );
                return Err(Failure::new("checkpoint-blocked", message));
            }
            std::thread::sleep(STEP);
        }
    }

    /// Looks from the end backwards, ever farther, until a checkpoint is found.
    fn read(&self) -> Result<Option<Checkpoint>, Failure> {
        let mut reach = FIRST_REACH;
        loop {
            let from = self.high.saturating_sub(reach).max(self.low);
            if let Some(value) = self.last_from(from)? {
                let decoded = Checkpoint::decode(&value);
                return decoded.map(Some).map_err(|e| {
                    Failure::caused(
                        "checkpoint-unreadable",
                        &format!("reading {}", self.topic),
                        &e,
                    )
                });
            }
            if from == self.low {
                return Ok(None);
            }
            reach = reach.saturating_mul(16);
        }
    }

    /// The last committed record at or after an offset.
    fn last_from(&self, from: i64) -> Result<Option<Vec<u8>>, Failure> {
        let attempt = format!("reading {}", self.topic);
        let failed = |e| error::client(&attempt, &e);
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(&self.topic, PARTITION, Offset::Offset(from))
            .map_err(failed)?;
        self.consumer.assign(&assignment).map_err(failed)?;
        let mut last = None;
        loop {
            match self.consumer.poll(STEP) {
                Some(Ok(message)) => last = message.payload().map(<[u8]>::to_vec).or(last),
                Some(Err(e)) if error::is_partition_end(&e) => return Ok(last),
                Some(Err(e)) => return Err(failed(e)),
                None if Instant::now() > self.deadline => {
                    return Err(Failure::new(
                        "kafka-unreachable",
                        format!("{attempt}: timed out"),
                    ));
                }
                None => {}
            }
        }
    }
}

fn watermarks(consumer: &BaseConsumer, topic: &str) -> Result<(i64, i64), Failure> {
    consumer
        .fetch_watermarks(topic, PARTITION, REQUEST)
        .map_err(|e| error::client(&format!("asking for the end of {topic}"), &e))
}
