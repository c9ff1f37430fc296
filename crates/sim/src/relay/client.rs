//! A Kafka client of one producer: partitions records, numbers them, and repeats what it has no
//! answer to, as an idempotent librdkafka producer does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use delivery::RefusedEvent;
use envelope::RecordBatch;

use super::outbound::{Outbound, Request};
use super::{Bug, Context};
use crate::broker::{Ended, Message, Metadata, PartitionId, Producer, Refusal};
use crate::task::pause;
use crate::world::World;

/// Records of one request, at most.
const MOST_PER_REQUEST: usize = 6;
/// Once in so many windows the client asks for metadata again.
const REFRESHED_EVERY: u64 = 20;

/// The client.
pub(super) struct Client {
    context: Context,
    pub producer: Producer,
    metadata: Metadata,
    /// The next sequence number of each partition.
    sequences: BTreeMap<PartitionId, u64>,
    /// Partitions known to be in the open transaction.
    added: BTreeSet<PartitionId>,
    /// Of records that were not taken: those that the broker has named.
    named: Vec<RefusedEvent>,
}

impl Client {
    pub fn new(context: Context, producer: Producer, metadata: Metadata) -> Self {
        Self {
            context,
            producer,
            metadata,
            sequences: BTreeMap::new(),
            added: BTreeSet::new(),
            named: Vec::new(),
        }
    }

    /// Gives each record its partition, by what this client knows of the topics.
    pub fn queue(&mut self, batch: &RecordBatch, out: &mut Outbound) {
        let metadata = &mut self.metadata;
        self.context.with(|world| {
            if world.dice.one_in(REFRESHED_EVERY)
                && let Ok(fresh) = world.broker.metadata(world.clock.elapsed())
            {
                *metadata = fresh;
            }
        });
        for record in batch.iter() {
            let key = record.key.unwrap_or_default();
            let partition = self.metadata.partition_for(record.topic, key);
            let partition = partition.expect("every topic of the run exists");
            out.push(partition, Message::from(&record));
        }
    }

    /// One request: some records of one partition, or that partition's way into the transaction.
    pub fn send_some(&mut self, out: &mut Outbound) -> Result<(), Refusal> {
        let (choice, most) = self.context.with(|world| {
            let choice = world.dice.index(0..64);
            (choice, world.dice.index(1..MOST_PER_REQUEST + 1))
        });
        let Some(request) = out.request(choice, most) else {
            return Ok(());
        };
        let is_in = self.producer.transactional_id.is_none();
        if !is_in && !self.added.contains(&request.partition) {
            return self.add(request.partition);
        }
        self.produce(request, out)
    }

    /// The events that brokers have named.
    pub fn take_named(&mut self) -> Vec<RefusedEvent> {
        std::mem::take(&mut self.named)
    }

    /// One EndTxn. The transaction is over for this client once it has an answer.
    pub fn commit(&mut self) -> Result<Ended, Refusal> {
        let producer = &self.producer;
        let ended = self.context.with(|world| {
            let now = world.clock.elapsed();
            world.broker.commit(producer, now)
        })?;
        self.added.clear();
        Ok(ended)
    }

    /// AddPartitionsToTxn; to add a partition twice does no harm.
    fn add(&mut self, partition: PartitionId) -> Result<(), Refusal> {
        let producer = &self.producer;
        self.context.with(|world| {
            if world.befalls(|faults| faults.add_lost, "add-lost") {
                return Err(Refusal::Unavailable);
            }
            let now = world.clock.elapsed();
            let added = world.broker.add_to_transaction(producer, partition, now);
            if added == Err(Refusal::Concurrent) {
                world.trace.count("add-concurrent");
            }
            added.map_err(|refusal| match refusal {
                Refusal::Denied(_) => Refusal::Denied(None),
                other => other,
            })?;
            match world.befalls(|faults| faults.add_unanswered, "add-unanswered") {
                true => Err(Refusal::Unavailable),
                false => Ok(()),
            }
        })?;
        self.added.insert(partition);
        Ok(())
    }

    fn produce(&mut self, request: Request, out: &mut Outbound) -> Result<(), Refusal> {
        let (partition, count) = (request.partition, request.messages.len());
        let first = *self.sequences.entry(partition).or_default();
        match self.context.with(refused) {
            None => {}
            Some(Refusal::Retriable) if self.context.has(Bug::ReordersRetries) => {
                out.postpone(partition, count);
                return Err(Refusal::Retriable);
            }
            Some(refusal) => return Err(refusal),
        }
        if self.is_delayed() {
            self.produce_late(request, first);
            return Err(Refusal::Rejected);
        }
        let producer = &self.producer;
        let is_answered = self.context.with(|world| {
            let now = world.clock.elapsed();
            let messages = request.messages;
            let broker = &mut world.broker;
            let named = broker.named(partition, &messages);
            let taken = broker.produce(producer, partition, first, messages, now);
            // Not every broker tells.
            if matches!(taken, Err(Refusal::Unacceptable(_))) && world.dice.one_in(2) {
                world.trace.count("refused-by-name");
                self.named = named;
            }
            taken?;
            Ok(!world.befalls(|faults| faults.produce_unanswered, "produce-unanswered"))
        })?;
        if is_answered || self.context.has(Bug::RepeatsUnanswered) {
            *self.sequences.entry(partition).or_default() += count as u64;
        }
        if !is_answered {
            out.unanswered(partition, count);
            return Err(Refusal::Unavailable);
        }
        out.taken(partition, count);
        Ok(())
    }

    fn is_delayed(&self) -> bool {
        self.context
            .with(|world| world.befalls(|faults| faults.produce_delayed, "produce-delayed"))
    }

    /// The client has given the records up, and they arrive all the same.
    fn produce_late(&self, request: Request, first: u64) {
        let (context, producer) = (self.context.clone(), self.producer.clone());
        self.context.post(Box::pin(async move {
            while !context.with(|world| world.dice.one_in(12)) {
                pause().await;
            }
            let arrived = context.with(|world| {
                let now = world.clock.elapsed();
                let (partition, messages) = (request.partition, request.messages);
                let broker = &mut world.broker;
                broker.produce(&producer, partition, first, messages, now)
            });
            if arrived.is_ok() {
                context.count("produce-arrived-late");
            }
        }));
    }
}

/// Records that are not taken, for now or for good, or that never arrive.
fn refused(world: &mut World) -> Option<Refusal> {
    if world.befalls(|faults| faults.produce_refused, "produce-refused") {
        return Some(Refusal::Rejected);
    }
    if world.befalls(|faults| faults.produce_retriable, "produce-retriable") {
        return Some(Refusal::Retriable);
    }
    let is_lost = world.befalls(|faults| faults.produce_lost, "produce-lost");
    is_lost.then_some(Refusal::Unavailable)
}

/// What there is, asked for until there is an answer.
pub(super) async fn metadata(context: &Context, patience: Duration) -> Option<Metadata> {
    let until = context.elapsed() + patience;
    while context.elapsed() < until {
        pause().await;
        let metadata = context.with(|world| {
            if world.befalls(|faults| faults.metadata, "metadata-failed") {
                return None;
            }
            world.broker.metadata(world.clock.elapsed()).ok()
        });
        if metadata.is_some() {
            return metadata;
        }
    }
    None
}
