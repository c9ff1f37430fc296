//! Committed records of a dead-letter topic, from its first offset to its end.

use std::time::{Duration, Instant};

use envelope::dead_letter::Found;
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers as _};

use crate::config::Pipeline;
use crate::failure::Failure;
use crate::sink::{Committed, Look};

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
    committed: Committed,
}

impl Reader {
    /// Nothing is contacted yet.
    pub fn open(pipeline: &Pipeline) -> Result<Self, Failure> {
        let attempt = "reading dead letters".to_owned();
        let group = "outboxd-dead-letter-reader";
        let committed = Committed::open(pipeline, group, &[], attempt)?;
        Ok(Self { committed })
    }

    /// Those of the topics that do not exist, or may not be seen.
    pub fn missing(&self, topics: &[String]) -> Result<Vec<String>, Failure> {
        let is_wanted = |name: &str| topics.iter().any(|topic| topic == name);
        let seen = self.committed.partitions(is_wanted)?;
        let is_missing = |topic: &&String| !seen.iter().any(|(name, _)| name == *topic);
        Ok(topics.iter().filter(is_missing).cloned().collect())
    }

    /// Shows every record of the topic that is committed by now, partition by partition.
    pub fn scan(
        &self,
        topic: &str,
        mut show: impl FnMut(Letter) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for (_, partition) in self.committed.partitions(|name| name == topic)? {
            let until = Instant::now() + SILENCE;
            let ends = self
                .committed
                .settled(topic, partition, until, "kafka-unreachable");
            let (low, high) = ends?;
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
        self.committed.seek(topic, partition, offsets.start)?;
        let mut next = offsets.start;
        let mut is_complete = false;
        let mut heard = Instant::now();
        while heard.elapsed() < SILENCE {
            match self.committed.look()? {
                Look::Record(message) => {
                    if message.offset() >= offsets.end {
                        return Ok(());
                    }
                    next = message.offset() + 1;
                    show(Letter::copy(&message))?;
                    // Whoever takes it may take its time.
                    heard = Instant::now();
                    if next == offsets.end {
                        return Ok(());
                    }
                }
                Look::End(_) if is_complete => return Ok(()),
                // A leader that was behind may have said so: what it has once it has everything
                // is read to its end again.
                Look::End(_) => {
                    is_complete = self.committed.ends(topic, partition)?.1 >= offsets.end;
                    self.committed.seek(topic, partition, next)?;
                }
                Look::Nothing => {}
            }
        }
        Err(Failure::new(
            "kafka-unreachable",
            format!("reading {topic}: timed out"),
        ))
    }
}
