//! Committed records of a dead-letter topic, from its first offset to its end.

use std::time::{Duration, Instant};

use envelope::dead_letter::Found;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::config::Pipeline;
use crate::failure::Failure;
use crate::sink::kafka;

const REQUEST: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(50);
/// A broker that has sent nothing for this long, though there is more, is given up.
const SILENCE: Duration = Duration::from_secs(30);

/// A record of a dead-letter topic.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: i64,
    /// The record key.
    pub key: Option<Vec<u8>>,
    /// The record value.
    pub value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Letter {
    fn copy(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            let header = |h: rdkafka::message::Header<'_, &[u8]>| {
                (h.key.to_owned(), h.value.map(<[u8]>::to_vec))
            };
            headers.iter().map(header).collect()
        });
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }

    /// Where it is, as operators name it: `topic/partition:offset`.
    pub fn place(&self) -> String {
        format!("{}/{}:{}", self.topic, self.partition, self.offset)
    }

    /// The headers, in order.
    pub fn headers(&self) -> Vec<(&str, Option<&[u8]>)> {
        let headers = self.headers.iter();
        headers
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect()
    }

    /// What they say, if it is a record of ours.
    pub fn read<T>(&self, then: impl FnOnce(Found<'_>) -> T) -> Option<T> {
        Found::read(&self.headers()).map(then)
    }
}

/// Reads dead-letter topics.
pub struct Reader {
    consumer: BaseConsumer,
    /// Knows where partitions really end.
    uncommitted: BaseConsumer,
}

impl Reader {
    /// Nothing is contacted yet.
    pub fn open(pipeline: &Pipeline) -> Result<Self, Failure> {
        let isolated = |level: &str| {
            let mut config = kafka::client_config(pipeline);
            config
                .set("group.id", "outboxd-dead-letter-reader")
                .set("enable.auto.commit", "false")
                .set("enable.partition.eof", "true")
                .set("fetch.wait.max.ms", "10")
                .set("isolation.level", level);
            let created = config.create();
            created.map_err(|e| kafka::failure("creating a reader of dead letters", &e))
        };
        Ok(Self {
            consumer: isolated("read_committed")?,
            uncommitted: isolated("read_uncommitted")?,
        })
    }

    /// Whether the topic exists.
    pub fn exists(&self, topic: &str) -> Result<bool, Failure> {
        Ok(!self.partitions(topic)?.is_empty())
    }

    /// Shows every record of the topic that is committed by now, partition by partition.
    pub fn scan(
        &self,
        topic: &str,
        mut show: impl FnMut(Letter) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for partition in self.partitions(topic)? {
            let (low, high) = self.settled(topic, partition)?;
            self.range(topic, partition, low..high, &mut show)?;
        }
        Ok(())
    }

    /// Shows the committed records of a range of offsets.
    pub fn range(
        &self,
        topic: &str,
        partition: i32,
        offsets: std::ops::Range<i64>,
        mut show: impl FnMut(Letter) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if offsets.is_empty() {
            return Ok(());
        }
        let attempt = format!("reading {topic}");
        let failed = |e| kafka::failure(&attempt, &e);
        self.seek(topic, partition, offsets.start)?;
        let mut next = offsets.start;
        let mut is_complete = false;
        let mut heard = Instant::now();
        while heard.elapsed() < SILENCE {
            match self.consumer.poll(STEP) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    if message.offset() >= offsets.end {
                        return Ok(());
                    }
                    next = message.offset() + 1;
                    let is_last = next == offsets.end;
                    show(Letter::copy(&message))?;
                    if is_last {
                        return Ok(());
                    }
                }
                Some(Err(e)) if kafka::is_partition_end(&e) && is_complete => return Ok(()),
                // A leader that was behind may have said so: what it has once it has everything
                // is read to its end again.
                Some(Err(e)) if kafka::is_partition_end(&e) => {
                    is_complete = self.ends(&self.consumer, topic, partition)?.1 >= offsets.end;
                    self.seek(topic, partition, next)?;
                }
                Some(Err(e)) => return Err(failed(e)),
                None => {}
            }
        }
        Err(Failure::new(
            "kafka-unreachable",
            format!("{attempt}: timed out"),
        ))
    }

    /// The extent of a partition, once every transaction in it is settled: the resolution of a letter
    /// may stand in one whose end is not written yet.
    fn settled(&self, topic: &str, partition: i32) -> Result<(i64, i64), Failure> {
        let (low, high) = self.ends(&self.uncommitted, topic, partition)?;
        let until = Instant::now() + SILENCE;
        while self.ends(&self.consumer, topic, partition)?.1 < high {
            if Instant::now() > until {
                let message = format!(
                    "{topic}: a transaction below offset {high} of partition {partition} is still open"
                );
                return Err(Failure::new("kafka-unreachable", message));
            }
            std::thread::sleep(STEP);
        }
        Ok((low, high))
    }

    fn seek(&self, topic: &str, partition: i32, offset: i64) -> Result<(), Failure> {
        let failed = |e| kafka::failure(&format!("reading {topic}"), &e);
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(topic, partition, Offset::Offset(offset))
            .map_err(failed)?;
        self.consumer.assign(&assignment).map_err(failed)
    }

    fn partitions(&self, topic: &str) -> Result<Vec<i32>, Failure> {
        // All topics: naming one could create it.
        let metadata = self
            .consumer
            .fetch_metadata(None, REQUEST)
            .map_err(|e| kafka::failure("asking the brokers for their topics", &e))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        Ok(found.map_or_else(Vec::new, |topic| {
            topic.partitions().iter().map(|p| p.id()).collect()
        }))
    }

    fn ends(
        &self,
        consumer: &BaseConsumer,
        topic: &str,
        partition: i32,
    ) -> Result<(i64, i64), Failure> {
        consumer
            .fetch_watermarks(topic, partition, REQUEST)
            .map_err(|e| kafka::failure(&format!("asking for the end of {topic}"), &e))
    }
}
