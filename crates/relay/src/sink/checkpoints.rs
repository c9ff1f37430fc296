//! Reading the newest committed checkpoint.

use std::time::{Duration, Instant};

use delivery::Checkpoint;
use producer::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::BorrowedMessage;
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

/// Key of every checkpoint record: compaction keeps the newest.
pub(super) const CHECKPOINT_KEY: &[u8] = b"checkpoint";

/// A record that a reader has to find. It is committed after all older producers were fenced, so
/// who has read up to it has read every checkpoint that they could commit, whatever a broker that
/// is behind takes for the partition's end.
#[derive(Debug, Clone)]
pub(super) struct Claim(String);

impl Claim {
    pub const KEY: &[u8] = b"claim";

    pub fn new() -> Self {
        Self(format!("{:032x}", fastrand::u128(..)))
    }

    pub fn value(&self) -> Vec<u8> {
        self.0.clone().into_bytes()
    }
}

/// A record for the checkpoint topic.
pub(super) fn record<'a>(topic: &'a str, key: &'a [u8], value: &'a [u8]) -> Record<'a> {
    Record {
        topic,
        partition: Some(PARTITION),
        key: Some(key),
        value: Some(value),
        timestamp_ms: 0,
    }
}

/// The newest committed checkpoint of the pipeline as it looks now. A relay that runs may be
/// committing the next one.
pub async fn read_latest(pipeline: &Pipeline) -> Result<Option<Checkpoint>, Failure> {
    read(pipeline, None).await
}

/// The newest committed checkpoint of the pipeline, after which none can come from older producers:
/// all of them are fenced, and the claim was committed since.
pub(super) async fn read_claimed(
    pipeline: &Pipeline,
    claim: Claim,
) -> Result<Option<Checkpoint>, Failure> {
    read(pipeline, Some(claim)).await
}

async fn read(pipeline: &Pipeline, claim: Option<Claim>) -> Result<Option<Checkpoint>, Failure> {
    let config = kafka::client_config(pipeline);
    let topic = pipeline.kafka.checkpoint_topic.clone();
    let reading = tokio::task::spawn_blocking(move || Reader::open(&config, &topic, claim)?.read());
    reading
        .await
        .map_err(|e| Failure::caused("internal", "reading the checkpoint", &e))?
}

struct Reader {
    consumer: BaseConsumer,
    topic: String,
    /// To be seen before an end counts.
    claim: Option<Claim>,
    low: i64,
    high: i64,
    deadline: Instant,
}

impl Reader {
    fn open(config: &ClientConfig, topic: &str, claim: Option<Claim>) -> Result<Self, Failure> {
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
        let consumer = isolated("read_committed")?;
        let (low, high) = match claim {
            Some(_) => watermarks(&isolated("read_uncommitted")?, topic)?,
            None => watermarks(&consumer, topic)?,
        };
        let reader = Self {
            consumer,
            topic: topic.to_owned(),
            claim,
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

    /// The last committed checkpoint at or after an offset.
    fn last_from(&self, from: i64) -> Result<Option<Vec<u8>>, Failure> {
        let attempt = format!("reading {}", self.topic);
        let failed = |e| error::client(&attempt, &e);
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(&self.topic, PARTITION, Offset::Offset(from))
            .map_err(failed)?;
        self.consumer.assign(&assignment).map_err(failed)?;
        let mut last = None;
        let mut claimed = self.claim.is_none();
        while Instant::now() < self.deadline {
            match self.consumer.poll(STEP) {
                Some(Ok(message)) if message.key() == Some(CHECKPOINT_KEY) => {
                    last = message.payload().map(<[u8]>::to_vec).or(last);
                }
                Some(Ok(message)) => claimed |= self.is_claim(&message),
                Some(Err(e)) if error::is_partition_end(&e) && claimed => return Ok(last),
                // The broker is behind, or no leader any more.
                Some(Err(e)) if error::is_partition_end(&e) => {}
                Some(Err(e)) => return Err(failed(e)),
                None => {}
            }
        }
        let missing = if claimed {
            ""
        } else {
            ": what was just written is not there"
        };
        Err(Failure::new(
            "kafka-unreachable",
            format!("{attempt}: timed out{missing}"),
        ))
    }

    fn is_claim(&self, message: &BorrowedMessage<'_>) -> bool {
        let wanted = self.claim.as_ref().map(|claim| claim.0.as_bytes());
        message.key() == Some(Claim::KEY) && message.payload() == wanted
    }
}

fn watermarks(consumer: &BaseConsumer, topic: &str) -> Result<(i64, i64), Failure> {
    consumer
        .fetch_watermarks(topic, PARTITION, REQUEST)
        .map_err(|e| error::client(&format!("asking for the end of {topic}"), &e))
}
