//! What producers ask for, and the coordinator's own work.

use std::collections::BTreeSet;
use std::time::Duration;

use super::coordinator::{Coordinator, Producer, State};
use super::partition::Sequence;
use super::{Broker, Message, Outcome, PartitionId, RecordId, Refusal, Transaction, TransactionId};
use crate::Dice;

/// What an EndTxn request found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// An open transaction: it is committed from now on.
    Now,
    /// The same request had been carried out before.
    Before,
}

impl Broker {
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

    /// AddPartitionsToTxn: opens a transaction if none is open.
    pub fn add_to_transaction(
        &mut self,
        producer: &Producer,
        partition: PartitionId,
        now: Duration,
    ) -> Result<(), Refusal> {
        self.answer(now)?;
        self.admit(partition, &[])?;
        let coordinator = self.coordinator_of(producer)?;
        let TransactionId(index) = match &coordinator.state {
            State::Ongoing { transaction, .. } => *transaction,
            State::Settling { .. } => return Err(Refusal::Concurrent),
            State::Empty => self.begin(producer, now)?,
        };
        self.transactions[index].partitions.insert(partition);
        Ok(())
    }

    /// Appends records of one partition, in the producer's transaction if it has an id. The first
    /// of them has sequence number `first`; what was appended before is only acknowledged.
    pub fn produce(
        &mut self,
        producer: &Producer,
        partition: PartitionId,
        first: u64,
        messages: Vec<Message>,
        now: Duration,
    ) -> Result<(), Refusal> {
        self.answer(now)?;
        let transaction = match &producer.transactional_id {
            Some(_) => Some(self.transaction_with(producer, partition)?),
            None => None,
        };
        self.admit(partition, &messages)?;
        let (writer, count) = ((producer.number, producer.epoch), messages.len() as u64);
        match self.partition_mut(partition).sequence(writer, first, count) {
            Sequence::Next => {}
            Sequence::Repeated => return Ok(()),
            Sequence::Ahead => return Err(Refusal::OutOfOrder),
        }
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
    pub fn commit(&mut self, producer: &Producer, now: Duration) -> Result<Ended, Refusal> {
        self.answer(now)?;
        let coordinator = self.coordinator_of(producer)?;
        match coordinator.state {
            State::Ongoing { transaction, .. } => {
                let id = producer.transactional_id.as_deref();
                let id = id.ok_or(Refusal::NoTransaction)?;
                self.settle(id, transaction, Outcome::Committed);
                Ok(Ended::Now)
            }
            State::Settling { .. } if coordinator.has_committed() => Err(Refusal::Concurrent),
            State::Empty if coordinator.has_committed() => Ok(Ended::Before),
            State::Settling { .. } | State::Empty => Err(Refusal::NoTransaction),
        }
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

    /// The coordinator, if the producer's epoch is the present one.
    fn coordinator_of(&self, producer: &Producer) -> Result<&Coordinator, Refusal> {
        let id = producer.transactional_id.as_deref();
        let id = id.ok_or(Refusal::NoTransaction)?;
        let coordinator = self.coordinators.get(id).ok_or(Refusal::Fenced)?;
        match coordinator.accepts(producer) {
            true => Ok(coordinator),
            false => Err(Refusal::Fenced),
        }
    }

    /// The producer's open transaction, to which the partition was added: the leader asks the
    /// coordinator before it appends (KIP-890).
    fn transaction_with(
        &self,
        producer: &Producer,
        partition: PartitionId,
    ) -> Result<TransactionId, Refusal> {
        let open = self.coordinator_of(producer)?.open();
        let has_it = |TransactionId(index): &TransactionId| {
            self.transactions[*index].partitions.contains(&partition)
        };
        open.filter(has_it).ok_or(Refusal::NoTransaction)
    }

    fn begin(&mut self, producer: &Producer, now: Duration) -> Result<TransactionId, Refusal> {
        let transaction = TransactionId(self.transactions.len());
        self.transactions.push(Transaction {
            outcome: Outcome::Open,
            partitions: BTreeSet::new(),
            records: Vec::new(),
        });
        let id = producer.transactional_id.as_deref().unwrap_or_default();
        let coordinator = self.coordinators.get_mut(id).ok_or(Refusal::Fenced)?;
        coordinator.state = State::Ongoing {
            transaction,
            since: now,
        };
        Ok(transaction)
    }

    /// Decides a transaction; its partitions are told one by one.
    fn settle(&mut self, id: &str, decided: TransactionId, outcome: Outcome) {
        let transaction = &mut self.transactions[decided.0];
        assert_eq!(transaction.outcome, Outcome::Open, "decided once");
        transaction.outcome = outcome;
        if outcome == Outcome::Committed {
            self.durable.extend(&transaction.records);
        }
        let partitions = transaction.partitions.iter().copied().collect();
        if let Some(coordinator) = self.coordinators.get_mut(id) {
            coordinator.decide(decided, partitions, outcome == Outcome::Committed);
        }
    }
}
