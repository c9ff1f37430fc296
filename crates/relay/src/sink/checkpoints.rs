//! Reading the newest committed checkpoint.

use std::time::{Duration, Instant};

use delivery::Checkpoint;
use producer::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

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

/// The transactional ids of a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ring {
    #[serde(rename = "transactional_id_prefix")]
    pub prefix: String,
    /// How many there are.
    pub producers: usize,
}

/// A relay's first record, committed after all older producers were fenced, and before it
/// publishes anything.
///
/// Who has read up to one's own claim has read every checkpoint that older relays could commit,
/// whatever a broker that is behind takes for the partition's end. And who finds another's claim
/// behind the newest checkpoint knows whose transactions may be open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    nonce: String,
    #[serde(flatten)]
    ring: Ring,
}

impl Claim {
    pub const KEY: &[u8] = b"claim";

    pub fn new(ring: Ring) -> Self {
        let nonce = format!("{:032x}", fastrand::u128(..));
        Self { nonce, ring }
    }

    pub fn value(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a claim holds nothing that JSON can't")
    }
}

/// What the topic's committed records say.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The newest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// Of the newest claim, if no checkpoint is newer.
    claimed: Option<Ring>,
}

impl Found {
    pub fn of(checkpoint: Option<Checkpoint>) -> Self {
        Self {
            checkpoint,
            claimed: None,
        }
    }

    /// Whose transactions may be open.
    pub fn ring(&self, own_prefix: &str) -> Option<Ring> {
        let writer = |checkpoint: &Checkpoint| {
            let prefix = checkpoint.transactional_id_prefix.as_deref();
            Ring {
                prefix: prefix.unwrap_or(own_prefix).to_owned(),
                producers: checkpoint.producers,
            }
        };
        let claimed = self.claimed.clone();
        claimed.or_else(|| self.checkpoint.as_ref().map(writer))
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
    Ok(look(pipeline).await?.checkpoint)
}

/// As [`read_latest`], and whose ring it may be to fence.
pub(super) async fn look(pipeline: &Pipeline) -> Result<Found, Failure> {
    read(pipeline, None).await
}

/// The newest committed checkpoint of the pipeline, after which none can come from older producers:
/// all of them are fenced, and the claim was committed since.
pub(super) async fn read_claimed(
    pipeline: &Pipeline,
    claim: Claim,
) -> Result<Option<Checkpoint>, Failure> {
    Ok(read(pipeline, Some(claim)).await?.checkpoint)
}

async fn read(pipeline: &Pipeline, claim: Option<Claim>) -> Result<Found, Failure> {
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
    fn read(&self) -> Result<Found, Failure> {
        let mut reach = FIRST_REACH;
        loop {
            let from = self.high.saturating_sub(reach).max(self.low);
            let Last { checkpoint, claim } = self.last_from(from)?;
            if checkpoint.is_none() && from > self.low {
                reach = reach.saturating_mul(16);
                continue;
            }
            let decoded = checkpoint.map(|value| Checkpoint::decode(&value));
            let attempt = format!("reading {}", self.topic);
            let checkpoint = decoded
                .transpose()
                .map_err(|e| Failure::caused("checkpoint-unreadable", &attempt, &e))?;
            let claimed = claim.map(|claim| claim.ring);
            return Ok(Found {
                checkpoint,
                claimed,
            });
        }
    }

    /// The last committed records at or after an offset.
    fn last_from(&self, from: i64) -> Result<Last, Failure> {
        let attempt = format!("reading {}", self.topic);
        let failed = |e| error::client(&attempt, &e);
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(&self.topic, PARTITION, Offset::Offset(from))
            .map_err(failed)?;
        self.consumer.assign(&assignment).map_err(failed)?;
        let mut last = Last::default();
        let mut claimed = self.claim.is_none();
        while Instant::now() < self.deadline {
            match self.consumer.poll(STEP) {
                Some(Ok(message)) => {
                    last.take(message.key(), message.payload().unwrap_or_default());
                    claimed |= last.claim == self.claim;
                }
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
}

/// The last records of each kind.
#[derive(Default)]
struct Last {
    checkpoint: Option<Vec<u8>>,
    claim: Option<Claim>,
}

impl Last {
    /// Takes a record in. Those of others are passed over.
    fn take(&mut self, key: Option<&[u8]>, value: &[u8]) {
        if key == Some(CHECKPOINT_KEY) {
            self.checkpoint = Some(value.to_vec());
            self.claim = None;
        } else if key == Some(Claim::KEY) {
            self.claim = serde_json::from_slice(value).ok();
        }
    }
}

fn watermarks(consumer: &BaseConsumer, topic: &str) -> Result<(i64, i64), Failure> {
    consumer
        .fetch_watermarks(topic, PARTITION, REQUEST)
        .map_err(|e| error::client(&format!("asking for the end of {topic}"), &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(producers: usize) -> Claim {
        Claim::new(Ring {
            prefix: "outboxd".into(),
            producers,
        })
    }

    #[test]
    fn a_claim_says_whose_transactions_may_be_open_until_its_relay_commits_a_checkpoint() {
        let mut last = Last::default();
        let (older, newer) = (claim(2), claim(4));
        last.take(Some(Claim::KEY), &older.value());
        assert_eq!(last.claim.as_ref(), Some(&older));
        last.take(Some(CHECKPOINT_KEY), b"{}");
        assert_eq!(last.claim, None);
        last.take(Some(Claim::KEY), &newer.value());
        last.take(Some(b"somebody else's"), b"{}");
        assert_eq!(last.claim.as_ref(), Some(&newer));
        assert_eq!(last.checkpoint.as_deref(), Some(&b"{}"[..]));
        let found = Found {
            checkpoint: None,
            claimed: last.claim.map(|claim| claim.ring),
        };
        assert_eq!(found.ring("other").map(|ring| ring.producers), Some(4));
    }

    #[test]
    fn no_two_claims_are_the_same() {
        assert_ne!(claim(1), claim(1));
    }
}
