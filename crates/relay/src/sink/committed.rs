//! Reading what is committed in a topic, and telling its end from one that is none.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{error, kafka};
use crate::config::Pipeline;
use crate::failure::Failure;

const REQUEST: Duration = Duration::from_secs(10);
/// How long one look for a record takes, at most.
const STEP: Duration = Duration::from_millis(50);
/// A broker answers the requests of a connection in turn: what is asked for beside a fetch at the end of a
/// topic, such as the ends of other partitions, would each time wait for half a second.
const FETCH_WAIT_MS: &str = "10";

/// Reads committed records. Calls block.
pub(crate) struct Committed {
    config: ClientConfig,
    consumer: BaseConsumer,
    /// Knows where partitions really end.
    uncommitted: OnceCell<BaseConsumer>,
    /// What is attempted, for errors.
    attempt: String,
}

/// What a look has found.
pub(crate) enum Look<'a> {
    Record(BorrowedMessage<'a>),
    /// The broker says that this is the end of the partition. One that is behind, or has just become
    /// the leader, may say so too early.
    End(i32),
    Nothing,
}

impl Committed {
    /// A reader with librdkafka properties of its own. Nothing is contacted yet.
    pub fn open(
        pipeline: &Pipeline,
        group: &str,
        properties: &[(&str, &str)],
        attempt: String,
    ) -> Result<Self, Failure> {
        let mut config = kafka::client_config(pipeline);
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", FETCH_WAIT_MS);
        for (name, value) in properties {
            config.set(*name, *value);
        }
        Ok(Self {
            consumer: isolated(&config, "read_committed", &attempt)?,
            uncommitted: OnceCell::new(),
            config,
            attempt,
        })
    }

    /// For metadata and offsets.
    pub fn consumer(&self) -> &BaseConsumer {
        &self.consumer
    }

    /// The partitions of every topic that is `wanted`.
    pub fn partitions(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, i32)>, Failure> {
        // All topics: naming one could create it.
        let metadata = self
            .consumer
            .fetch_metadata(None, REQUEST)
            .map_err(|e| error::client("asking the brokers for their topics", &e))?;
        let topics = metadata.topics().iter().filter(|t| wanted(t.name()));
        let partitions = topics.flat_map(|topic| {
            let partitions = topic.partitions().iter();
            partitions.map(|partition| (topic.name().to_owned(), partition.id()))
        });
        Ok(partitions.collect())
    }

    /// The first offset and the end of what is settled.
    pub fn ends(&self, topic: &str, partition: i32) -> Result<(i64, i64), Failure> {
        watermarks(&self.consumer, topic, partition)
    }

    /// The extent of a partition, once every transaction in it is settled: what is committed may stand
    /// in one whose end is not written yet. Fails with `code` after the deadline.
    pub fn settled(
        &self,
        topic: &str,
        partition: i32,
        deadline: Instant,
        code: &str,
    ) -> Result<(i64, i64), Failure> {
        let (low, high) = watermarks(self.uncommitted()?, topic, partition)?;
        while self.ends(topic, partition)?.1 < high {
            if Instant::now() > deadline {
                let message = format!(
                    "{topic}: a transaction below offset {high} of partition {partition} is still open"
                );
                return Err(Failure::new(code, message));
            }
            std::thread::sleep(STEP);
        }
        Ok((low, high))
    }

    /// Goes on from an offset of one partition.
    pub fn seek(&self, topic: &str, partition: i32, offset: i64) -> Result<(), Failure> {
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(topic, partition, Offset::Offset(offset))
            .map_err(|e| self.failed(&e))?;
        self.assign(&assignment)
    }

    /// Goes on from these offsets.
    pub fn assign(&self, assignment: &TopicPartitionList) -> Result<(), Failure> {
        self.consumer
            .assign(assignment)
            .map_err(|e| self.failed(&e))
    }

    /// Partitions at an offset.
    pub fn list(
        &self,
        places: &[(String, i32)],
        offset: Offset,
    ) -> Result<TopicPartitionList, Failure> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in places {
            let added = list.add_partition_offset(topic, *partition, offset);
            added.map_err(|e| self.failed(&e))?;
        }
        Ok(list)
    }

    /// Partitions at the first record of a time or later, milliseconds since 1970; at the end, if
    /// there is none.
    pub fn at_time(
        &self,
        places: &[(String, i32)],
        millis: i64,
    ) -> Result<TopicPartitionList, Failure> {
        let asked = self.list(places, Offset::Offset(millis.max(0)))?;
        let found = self.consumer.offsets_for_times(asked, REQUEST);
        let found = found.map_err(|e| self.failed(&e))?;
        for element in found.elements() {
            element.error().map_err(|e| self.failed(&e))?;
        }
        Ok(found)
    }

    /// Reads these as well.
    pub fn follow(&self, more: &TopicPartitionList) -> Result<(), Failure> {
        self.consumer
            .incremental_assign(more)
            .map_err(|e| self.failed(&e))
    }

    /// Looks for the next record.
    pub fn look(&self) -> Result<Look<'_>, Failure> {
        match self.consumer.poll(STEP) {
            Some(Ok(message)) => Ok(Look::Record(message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Look::End(partition)),
            // librdkafka takes no consumer without a group, and looks for its coordinator. Nothing is joined or
            // committed, so it does not matter who may.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::GroupAuthorizationFailed,
            ))) => Ok(Look::Nothing),
            Some(Err(e)) => Err(self.failed(&e)),
            None => Ok(Look::Nothing),
        }
    }

    /// What was attempted has failed.
    pub fn failed(&self, error: &KafkaError) -> Failure {
        error::client(&self.attempt, error)
    }

    fn uncommitted(&self) -> Result<&BaseConsumer, Failure> {
        if let Some(consumer) = self.uncommitted.get() {
            return Ok(consumer);
        }
        let consumer = isolated(&self.config, "read_uncommitted", &self.attempt)?;
        Ok(self.uncommitted.get_or_init(|| consumer))
    }
}

fn isolated(config: &ClientConfig, level: &str, attempt: &str) -> Result<BaseConsumer, Failure> {
    let mut config = config.clone();
    config.set("isolation.level", level);
    config.create().map_err(|e| error::client(attempt, &e))
}

fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> Result<(i64, i64), Failure> {
    consumer
        .fetch_watermarks(topic, partition, REQUEST)
        .map_err(|e| match e.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownPartition) => Failure::new(
                "topic-missing",
                format!("topic {topic} does not exist, or has no partition {partition}"),
            ),
            Some(_) | None => error::client(&format!("asking for the end of {topic}"), &e),
        })
}
