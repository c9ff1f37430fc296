//! The simulated Kafka: partitions, transactions, and who may write.

mod access;
mod coordinator;
mod partition;
mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use access::Access;
use access::Accesses;
use coordinator::Coordinator;
pub use coordinator::Producer;
use partition::Partition;
pub use partition::{Message, Stored};
pub use requests::Ended;

use crate::wal::{EVENT_TYPES, SOUND_TYPES};

/// Where checkpoints go.
pub const CHECKPOINT_TOPIC: &str = "outboxd.checkpoints";

/// Where events go that can't be published.
pub const DEAD_LETTER_TOPIC: &str = "outbox.dead-letter";
/// Partition of the checkpoint topic, beside that of checkpoints.
const EXCEPTIONS: usize = 1;

/// A partition of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionId {
    topic: usize,
    partition: usize,
}

impl PartitionId {
    /// Its number in its topic.
    pub fn number(self) -> i32 {
        self.partition as i32
    }
}

/// A Kafka transaction; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionId(usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Open,
    Committed,
    Aborted,
}

#[derive(Debug)]
struct Transaction {
    outcome: Outcome,
    /// Those that were added to it, whether or not anything was produced to them.
    partitions: BTreeSet<PartitionId>,
    records: Vec<RecordId>,
}

/// A record's place, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId {
    /// The partition.
    pub partition: PartitionId,
    /// The offset in it.
    pub offset: usize,
}

/// Topics and their numbers of partitions, as a client once learnt them.
#[derive(Debug, Clone)]
pub struct Metadata(Vec<(String, usize)>);

impl Metadata {
    /// Where a record with that key belongs.
    pub fn partition_for(&self, topic: &str, key: &[u8]) -> Option<PartitionId> {
        let index = self.0.iter().position(|(name, _)| name == topic)?;
        let (_, partitions) = self.0.get(index)?;
        let hash = key.iter().fold(7_usize, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(usize::from(*byte))
        });
        Some(PartitionId {
            topic: index,
            partition: hash % partitions,
        })
    }
}

/// Why a request is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No answer.
    #[error("the broker does not answer")]
    Unavailable,
    /// CONCURRENT_TRANSACTIONS: the transaction before has not been settled everywhere.
    #[error("the transaction before is still being settled")]
    Concurrent,
    /// The producer's epoch is over.
    #[error("fenced")]
    Fenced,
    /// INVALID_TXN_STATE: there is no transaction to end, or the partition is not in it.
    #[error("no transaction is open")]
    NoTransaction,
    /// OUT_OF_ORDER_SEQUENCE_NUMBER: records before these are missing.
    #[error("sequence numbers are missing")]
    OutOfOrder,
    /// NOT_ENOUGH_REPLICAS, NOT_LEADER_OR_FOLLOWER and the like: for this partition, for now.
    #[error("the partition can't be written to at present")]
    Retriable,
    /// A record that its topic does not take.
    #[error("not acceptable")]
    Unacceptable(PartitionId),
    /// UNKNOWN_TOPIC_OR_PARTITION.
    #[error("the topic does not exist")]
    Missing(PartitionId),
    /// TOPIC_AUTHORIZATION_FAILED. Of a partition that may not be part of a transaction, clients do not
    /// tell which it was.
    #[error("the topic may not be written to")]
    Denied(Option<PartitionId>),
    /// Records refused for good, as by a policy or a lost permission.
    #[error("records refused")]
    Rejected,
}

/// The cluster. What it accepts is durable: acks=all, and no unclean election.
#[derive(Debug)]
pub struct Broker {
    topics: Vec<(String, Vec<Partition>)>,
    accesses: Accesses,
    /// Somebody has emptied the checkpoint topic.
    pub forgot: bool,
    coordinators: BTreeMap<String, Coordinator>,
    transactions: Vec<Transaction>,
    /// Records in the order in which their being durable was decided.
    durable: Vec<RecordId>,
    next_producer: u64,
    transaction_timeout: Duration,
    down_until: Option<Duration>,
}

impl Broker {
    /// An empty cluster with every topic of the run, and the checkpoint topic.
    pub fn new(partitions: usize, transaction_timeout: Duration) -> Self {
        let topic = |name: &str, count: usize| {
            let partitions = (0..count).map(|_| Partition::default()).collect();
            (name.to_owned(), partitions)
        };
        let mut topics = Vec::from(EVENT_TYPES.map(|name| topic(name, partitions)));
        topics.push(topic(DEAD_LETTER_TOPIC, partitions));
        topics.push(topic(CHECKPOINT_TOPIC, 2));
        Self {
            topics,
            accesses: Accesses::default(),
            forgot: false,
            coordinators: BTreeMap::new(),
            transactions: Vec::new(),
            durable: Vec::new(),
            next_producer: 1,
            transaction_timeout,
            down_until: None,
        }
    }

    /// Answers nothing until then.
    pub fn go_down(&mut self, until: Duration) {
        self.down_until = Some(until);
    }

    /// Answers again.
    pub fn come_up(&mut self) {
        self.down_until = None;
    }

    /// Every topic and how many partitions it has, as a Metadata request tells.
    pub fn metadata(&self, now: Duration) -> Result<Metadata, Refusal> {
        self.answer(now)?;
        let topics = self.topics.iter();
        let counts = topics.map(|(name, partitions)| (name.clone(), partitions.len()));
        Ok(Metadata(counts.collect()))
    }

    /// How many partitions each topic of events has.
    pub fn partitions(&self) -> usize {
        self.topics
            .first()
            .map_or(0, |(_, partitions)| partitions.len())
    }

    /// An operator adds a partition to each topic of events, and to that of dead letters.
    pub fn add_partitions(&mut self) {
        for (_, partitions) in self.topics.iter_mut().take(EVENT_TYPES.len() + 1) {
            partitions.push(Partition::default());
        }
    }

    /// Somebody deletes what the checkpoint topic holds.
    pub fn empty_checkpoints(&mut self) {
        self.forgot = true;
        for id in [self.checkpoints(), self.exceptions()] {
            self.partition_mut(id).truncate();
        }
    }

    /// Somebody deletes what it holds beside the checkpoint.
    pub fn empty_exceptions(&mut self) {
        let id = self.exceptions();
        self.partition_mut(id).truncate();
    }

    /// How many hold.
    pub fn held_exceptions(&self) -> usize {
        let mut keys = BTreeSet::new();
        for stored in self.committed(self.exceptions(), usize::MAX) {
            match stored.message.value {
                Some(_) => keys.insert(&stored.message.key),
                None => keys.remove(&stored.message.key),
            };
        }
        keys.len()
    }

    /// Where later sessions read of what was not published.
    pub fn exceptions(&self) -> PartitionId {
        PartitionId {
            partition: EXCEPTIONS,
            ..self.checkpoints()
        }
    }

    /// All partitions with dead letters.
    pub fn dead_letter_partitions(&self) -> Vec<PartitionId> {
        let topic = EVENT_TYPES.len();
        let partitions = self.topics.get(topic).map_or(0, |(_, p)| p.len());
        (0..partitions)
            .map(|partition| PartitionId { topic, partition })
            .collect()
    }

    /// Whether a partition holds events.
    pub fn is_events(&self, id: PartitionId) -> bool {
        id.topic < EVENT_TYPES.len()
    }

    /// Whether a partition holds dead letters.
    pub fn is_dead_letters(&self, id: PartitionId) -> bool {
        id.topic == EVENT_TYPES.len()
    }

    /// The topics that may be inaccessible at times.
    pub fn fragile_topics() -> &'static [&'static str] {
        &EVENT_TYPES[SOUND_TYPES..]
    }

    /// The partition of checkpoints.
    pub fn checkpoints(&self) -> PartitionId {
        PartitionId {
            topic: self.topics.len() - 1,
            partition: 0,
        }
    }

    /// All partitions with events, and their topics.
    pub fn event_partitions(&self) -> impl Iterator<Item = (&str, PartitionId)> {
        let events = self.topics.iter().enumerate().take(EVENT_TYPES.len());
        events.flat_map(|(topic, (name, partitions))| {
            let ids = 0..partitions.len();
            ids.map(move |partition| (name.as_str(), PartitionId { topic, partition }))
        })
    }

    /// A producer without a transactional id.
    pub fn idempotent(&mut self) -> Producer {
        let producer = Producer::plain(self.next_producer);
        self.next_producer += 1;
        producer
    }

    /// Where the next record goes, as ListOffsets tells.
    pub fn high_watermark(&self, id: PartitionId, now: Duration) -> Result<usize, Refusal> {
        self.answer(now)?;
        Ok(self.partition(id).end())
    }

    /// Below it everything is settled.
    pub fn stable_offset(&self, id: PartitionId, now: Duration) -> Result<usize, Refusal> {
        self.answer(now)?;
        Ok(self.partition(id).stable())
    }

    /// What `read_committed` shows below an offset.
    pub fn committed(&self, id: PartitionId, below: usize) -> impl Iterator<Item = &Stored> {
        let partition = self.partition(id);
        let stored = partition.stored(below.min(partition.stable()));
        stored.filter(|stored| match stored.transaction {
            Some(TransactionId(index)) => self.transactions[index].outcome == Outcome::Committed,
            None => true,
        })
    }

    /// What `read_committed` shows, and where it stands.
    pub fn committed_with_offsets(&self, id: PartitionId) -> Vec<(usize, &Stored)> {
        let partition = self.partition(id);
        let offsets = partition.offsets(partition.stable()).into_iter();
        let stored = offsets.map(|offset| (offset, partition.get(offset)));
        let is_committed = |stored: &Stored| match stored.transaction {
            Some(TransactionId(index)) => self.transactions[index].outcome == Outcome::Committed,
            None => true,
        };
        stored.filter(|(_, stored)| is_committed(stored)).collect()
    }

    /// What `read_uncommitted` shows.
    pub fn stored(&self, id: PartitionId) -> impl Iterator<Item = &Stored> {
        self.partition(id).stored(usize::MAX)
    }

    /// The newest checkpoint that a reader can see once everything is settled.
    pub fn newest_checkpoint(&self) -> Option<&Stored> {
        self.committed(self.checkpoints(), usize::MAX).last()
    }

    /// No transaction is open or being settled anywhere.
    pub fn is_settled(&self) -> bool {
        let partitions = self.topics.iter().flat_map(|(_, partitions)| partitions);
        partitions.into_iter().all(|p| p.stable() == p.end())
    }

    /// Every record that is durable for good, in the order in which that was decided.
    pub fn durable(&self) -> &[RecordId] {
        &self.durable
    }

    /// A record.
    pub fn record(&self, id: RecordId) -> &Stored {
        self.partition(id.partition).get(id.offset)
    }

    fn answer(&self, now: Duration) -> Result<(), Refusal> {
        match self.down_until {
            Some(until) if now < until => Err(Refusal::Unavailable),
            Some(_) | None => Ok(()),
        }
    }

    fn partition(&self, id: PartitionId) -> &Partition {
        &self.topics[id.topic].1[id.partition]
    }

    fn partition_mut(&mut self, id: PartitionId) -> &mut Partition {
        &mut self.topics[id.topic].1[id.partition]
    }
}

#[cfg(test)]
mod tests;
