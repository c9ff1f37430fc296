//! The simulated Kafka: partitions, transactions, and who may write.

mod coordinator;
mod partition;

use std::collections::BTreeMap;
use std::time::Duration;

pub use coordinator::Producer;
use coordinator::{Coordinator, State};
use partition::Partition;
pub use partition::{Message, Stored};

use crate::Dice;
use crate::wal::EVENT_TYPES;

/// Where checkpoints go.
pub const CHECKPOINT_TOPIC: &str = "outboxd.checkpoints";

/// A partition of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionId {
    topic: usize,
    partition: usize,
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
    /// There is no transaction to end.
    #[error("no transaction is open")]
    NoTransaction,
}

/// The cluster. What it accepts is durable: acks=all, and no unclean election.
#[derive(Debug)]
pub struct Broker {
    topics: Vec<(String, Vec<Partition>)>,
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
        topics.push(topic(CHECKPOINT_TOPIC, 1));
        Self {
            topics,
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

    /// Where a record with that key belongs.
    pub fn partition_for(&self, topic: &str, key: &[u8]) -> Option<PartitionId> {
        let index = self.topics.iter().position(|(name, _)| name == topic)?;
        let (_, partitions) = self.topics.get(index)?;
        let hash = key.iter().fold(7_usize, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(usize::from(*byte))
        });
        Some(PartitionId {
            topic: index,
            partition: hash % partitions.len(),
        })
    }

    /// The only partition of the checkpoint topic.
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

    /// InitProducerId: settles what the id left open, and fences its older producers.
    pub fn init(&mut self, id: &str, now: Duration) -> Result<Producer, Refusal> {
        self.answer(now)?;
        let next = &mut self.next_producer;
        let coordinator = self.coordinators.entry(id.to_owned()).or_insert_with(|| {
            *next += 1;
            Coordinator::new(*next - 1)
        });
        let open = coordinator.open();
        if let Some(transaction) = open {
            coordinator.epoch += 1;
            self.settle(id, transaction, Outcome::Aborted);
            return Err(Refusal::Concurrent);
        }
        if matches!(coordinator.state, State::Settling { .. }) {
            return Err(Refusal::Concurrent);
        }
        coordinator.epoch += 1;
        Ok(coordinator.producer(id))
    }

    /// Appends records of one partition, in the producer's transaction if it has an id.
    pub fn produce(
        &mut self,
        producer: &Producer,
        partition: PartitionId,
        messages: impl Iterator<Item = Message>,
        now: Duration,
    ) -> Result<(), Refusal> {
        self.answer(now)?;
        let transaction = match &producer.transactional_id {
            Some(id) => Some(self.join_transaction(id, producer, now)?),
            None => None,
        };
        for message in messages {
            let offset = self.partition_mut(partition).append(message, transaction);
            let record = RecordId { partition, offset };
            match transaction {
                Some(TransactionId(index)) => self.transactions[index].records.push(record),
                None => self.durable.push(record),
            }
        }
        Ok(())
    }

    /// EndTxn with commit. Once it is accepted nothing can undo it.
    pub fn commit(&mut self, producer: &Producer, now: Duration) -> Result<(), Refusal> {
        self.answer(now)?;
        let id = producer.transactional_id.as_deref();
        let id = id.ok_or(Refusal::NoTransaction)?;
        let coordinator = self.coordinators.get(id).ok_or(Refusal::Fenced)?;
        if !coordinator.accepts(producer) {
            return Err(Refusal::Fenced);
        }
        let transaction = coordinator.open().ok_or(Refusal::NoTransaction)?;
        self.settle(id, transaction, Outcome::Committed);
        Ok(())
    }

    /// The broker's own work: writes markers, and aborts what has been open for too long.
    pub fn step(&mut self, now: Duration, dice: &mut Dice) -> Option<&'static str> {
        if self.answer(now).is_err() {
            return None;
        }
        let ids: Vec<_> = self.coordinators.keys().cloned().collect();
        let id = ids.get(dice.index(0..ids.len().max(1)))?;
        let coordinator = self.coordinators.get_mut(id)?;
        if let Some(transaction) = coordinator.expired(now, self.transaction_timeout) {
            coordinator.epoch += 1;
            self.settle(id, transaction, Outcome::Aborted);
            return Some("transaction-timeout");
        }
        if let Some((partition, transaction)) = coordinator.next_marker() {
            self.partition_mut(partition).settle(transaction);
        }
        None
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

    fn join_transaction(
        &mut self,
        id: &str,
        producer: &Producer,
        now: Duration,
    ) -> Result<TransactionId, Refusal> {
        let coordinator = self.coordinators.get_mut(id).ok_or(Refusal::Fenced)?;
        if !coordinator.accepts(producer) {
            return Err(Refusal::Fenced);
        }
        match &coordinator.state {
            State::Ongoing { transaction, .. } => Ok(*transaction),
            State::Settling { .. } => Err(Refusal::Concurrent),
            State::Empty => {
                let transaction = TransactionId(self.transactions.len());
                self.transactions.push(Transaction {
                    outcome: Outcome::Open,
                    records: Vec::new(),
                });
                coordinator.state = State::Ongoing {
                    transaction,
                    since: now,
                };
                Ok(transaction)
            }
        }
    }

    /// Decides a transaction; its partitions are told one by one.
    fn settle(&mut self, id: &str, TransactionId(index): TransactionId, outcome: Outcome) {
        let transaction = &mut self.transactions[index];
        assert_eq!(transaction.outcome, Outcome::Open, "decided once");
        transaction.outcome = outcome;
        if outcome == Outcome::Committed {
            self.durable.extend(&transaction.records);
        }
        let mut partitions: Vec<_> = transaction.records.iter().map(|r| r.partition).collect();
        partitions.sort_unstable();
        partitions.dedup();
        if let Some(coordinator) = self.coordinators.get_mut(id) {
            coordinator.state = State::Settling {
                transaction: TransactionId(index),
                unmarked: partitions,
            };
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
