//! Reading what earlier sessions have recorded: the newest checkpoint, and all exceptions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use delivery::{Checkpoint, Exceptions};
use pgoutput::Position;
use producer::Record;
use rdkafka::Message;
use serde::{Deserialize, Serialize};

use super::committed::{Committed, Look};
use crate::config::Pipeline;
use crate::failure::Failure;

/// Partition of checkpoints and claims, of which only the newest count.
const CHECKPOINTS: i32 = 0;
/// Partition of exceptions (and claims), of which all count.
const EXCEPTIONS: i32 = 1;
/// Partitions of the topic.
pub const PARTITIONS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(30);
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

/// A record of checkpoints and claims.
pub(super) fn checkpoint_record<'a>(topic: &'a str, key: &'a [u8], value: &'a [u8]) -> Record<'a> {
    record(topic, CHECKPOINTS, key, Some(value))
}

/// A record of exceptions and claims.
pub(super) fn exception_record<'a>(
    topic: &'a str,
    key: &'a [u8],
    value: Option<&'a [u8]>,
) -> Record<'a> {
    record(topic, EXCEPTIONS, key, value)
}

fn record<'a>(
    topic: &'a str,
    partition: i32,
    key: &'a [u8],
    value: Option<&'a [u8]>,
) -> Record<'a> {
    Record {
        topic,
        partition: Some(partition),
        key: Some(key),
        value,
        timestamp_ms: 0,
        tag: 0,
    }
}

/// What earlier sessions have recorded.
#[derive(Debug, Default)]
pub struct Recorded {
    /// The newest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// What holds beside it.
    pub exceptions: Exceptions,
}

/// What is recorded as it looks now. A relay that runs may be committing the next checkpoint.
pub async fn read_latest(pipeline: &Pipeline) -> Result<Recorded, Failure> {
    read(pipeline, None, |reader| reader.recorded()).await
}

/// What is recorded once every transaction that is open now is settled. Of a commit, one partition may
/// show what it wrote before the other one does.
pub async fn read_settled(pipeline: &Pipeline) -> Result<Recorded, Failure> {
    read(pipeline, None, |reader| {
        let extent = Extent::Settled;
        Reader { extent, ..reader }.settled()
    })
    .await
}

/// The oldest checkpoint that is still there and says that the change at `position` is published. Older
/// ones have been compacted away.
pub async fn read_first_covering(
    pipeline: &Pipeline,
    position: Position,
) -> Result<Option<Checkpoint>, Failure> {
    read(pipeline, None, move |reader| {
        reader.first_covering(position)
    })
    .await
}

/// The newest checkpoint as it looks now, and whose ring it may be to fence.
pub(super) async fn look(pipeline: &Pipeline) -> Result<Found, Failure> {
    read(pipeline, None, |reader| reader.checkpoint()).await
}

/// What is recorded, and can't be added to by older producers: all of them are fenced, and the claim
/// was committed since.
pub(super) async fn read_claimed(pipeline: &Pipeline, claim: Claim) -> Result<Recorded, Failure> {
    read(pipeline, Some(claim), |reader| reader.recorded()).await
}

async fn read<T: Send + 'static>(
    pipeline: &Pipeline,
    claim: Option<Claim>,
    what: impl FnOnce(Reader) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let pipeline = pipeline.clone();
    let reading = tokio::task::spawn_blocking(move || what(Reader::open(&pipeline, claim)?));
    reading
        .await
        .map_err(|e| Failure::caused("internal", "reading the checkpoint", &e))?
}

struct Reader {
    committed: Committed,
    topic: String,
    /// To be seen before an end counts.
    claim: Option<Claim>,
    extent: Extent,
    deadline: Instant,
}

/// Up to where a partition is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// What is committed by now.
    Committed,
    /// What is there by now, once it is settled.
    Settled,
}

/// A partition's committed records.
struct Range {
    partition: i32,
    low: i64,
    high: i64,
}

impl Reader {
    fn open(pipeline: &Pipeline, claim: Option<Claim>) -> Result<Self, Failure> {
        let topic = pipeline.kafka.checkpoint_topic.clone();
        let attempt = format!("reading {topic}");
        let group = "outboxd-checkpoint-reader";
        Ok(Self {
            committed: Committed::open(pipeline, group, &[], attempt)?,
            topic,
            extent: match claim {
                Some(_) => Extent::Settled,
                None => Extent::Committed,
            },
            claim,
            deadline: Instant::now() + PATIENCE,
        })
    }

    fn recorded(&self) -> Result<Recorded, Failure> {
        Ok(Recorded {
            checkpoint: self.checkpoint()?.checkpoint,
            exceptions: self.exceptions()?,
        })
    }

    /// The checkpoint after the exceptions: if it is the same as before, so is what it counts.
    fn settled(&self) -> Result<Recorded, Failure> {
        let exceptions = self.exceptions()?;
        Ok(Recorded {
            checkpoint: self.checkpoint()?.checkpoint,
            exceptions,
        })
    }

    /// The extent of a partition: for who has claimed it, once everything in it is settled.
    fn range(&self, partition: i32) -> Result<Range, Failure> {
        let (low, high) = match self.extent {
            Extent::Settled => {
                let code = "checkpoint-blocked";
                let (topic, deadline) = (&self.topic, self.deadline);
                self.committed.settled(topic, partition, deadline, code)?
            }
            Extent::Committed => self.committed.ends(&self.topic, partition)?,
        };
        Ok(Range {
            partition,
            low,
            high,
        })
    }

    /// Looks from the end backwards, ever farther, until a checkpoint is found.
    fn checkpoint(&self) -> Result<Found, Failure> {
        let range = self.range(CHECKPOINTS)?;
        let mut reach = FIRST_REACH;
        loop {
            let from = range.high.saturating_sub(reach).max(range.low);
            let mut last = Last::default();
            self.scan(&range, from, |key, value| {
                last.take(key, value.unwrap_or_default());
            })?;
            let Last { checkpoint, claim } = last;
            if checkpoint.is_none() && from > range.low {
                reach = reach.saturating_mul(16);
                continue;
            }
            let decoded = checkpoint.map(|value| Checkpoint::decode(&value));
            let checkpoint = decoded
                .transpose()
                .map_err(|e| Failure::caused("checkpoint-unreadable", &self.attempt(), &e))?;
            let claimed = claim.map(|claim| claim.ring);
            return Ok(Found {
                checkpoint,
                claimed,
            });
        }
    }

    /// Those that can't be read are passed over: they are of other versions.
    fn first_covering(&self, position: Position) -> Result<Option<Checkpoint>, Failure> {
        let range = self.range(CHECKPOINTS)?;
        let mut first = None;
        self.scan(&range, range.low, |key, value| {
            if key != Some(CHECKPOINT_KEY) || first.is_some() {
                return;
            }
            let decoded = Checkpoint::decode(value.unwrap_or_default()).ok();
            first = decoded.filter(|checkpoint| covers(checkpoint, position));
        })?;
        Ok(first)
    }

    /// All of them, for each is the newest of its key.
    fn exceptions(&self) -> Result<Exceptions, Failure> {
        let range = self.range(EXCEPTIONS)?;
        let mut newest: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        self.scan(&range, range.low, |key, value| match (key, value) {
            (Some(Claim::KEY) | None, _) => {}
            (Some(key), Some(value)) => {
                newest.insert(key.to_vec(), value.to_vec());
            }
            (Some(key), None) => {
                newest.remove(key);
            }
        })?;
        let mut exceptions = Exceptions::default();
        for value in newest.values() {
            if !exceptions.take(value) {
                let message = format!(
                    "{}: a record of partition {EXCEPTIONS} is not understood",
                    self.attempt()
                );
                return Err(Failure::new("checkpoint-unreadable", message));
            }
        }
        Ok(exceptions)
    }

    /// Shows the committed records from an offset on, up to the claim and the end behind it.
    fn scan(
        &self,
        range: &Range,
        from: i64,
        mut take: impl FnMut(Option<&[u8]>, Option<&[u8]>),
    ) -> Result<(), Failure> {
        self.committed.seek(&self.topic, range.partition, from)?;
        let mut claimed = self.claim.is_none();
        while Instant::now() < self.deadline {
            match self.committed.look()? {
                Look::Record(message) => {
                    let (key, value) = (message.key(), message.payload());
                    claimed |= key == Some(Claim::KEY)
                        && self.claim.as_ref().map(Claim::value).as_deref() == value;
                    take(key, value);
                }
                Look::End(_) if claimed => return Ok(()),
                // The broker is behind, or no leader any more.
                Look::End(_) | Look::Nothing => {}
            }
        }
        let missing = if claimed {
            ""
        } else {
            ": what was just written is not there"
        };
        Err(Failure::new(
            "kafka-unreachable",
            format!("{}: timed out{missing}", self.attempt()),
        ))
    }

    fn attempt(&self) -> String {
        format!("reading {}", self.topic)
    }
}

/// Whether a change is published, by a checkpoint of the same timeline.
fn covers(checkpoint: &Checkpoint, position: Position) -> bool {
    checkpoint.position.as_ref().is_some_and(|last| {
        let is_behind = last.commit_lsn > position.commit_lsn;
        let is_within = last.commit_lsn == position.commit_lsn && last.index > position.index;
        is_behind || is_within
    })
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
