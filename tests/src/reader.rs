//! A consumer that reads topics from their beginning.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

const METADATA: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(50);
const QUIET: Duration = Duration::from_secs(60);

/// A record as it was read.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Key as text.
    pub key: String,
    /// Value as text.
    pub value: String,
    /// The `eventId` header.
    pub event_id: String,
    /// The `position` header.
    pub position: String,
    /// The `replay` header: the request by which it was published again.
    pub replay: Option<String>,
    /// When it was read.
    pub read_at: SystemTime,
}

/// What a reader is shown (the property `isolation.level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// What consumers see: nothing of open or aborted transactions.
    Committed,
    /// Everything that was ever produced.
    Uncommitted,
}

impl Isolation {
    fn level(self) -> &'static str {
        match self {
            Self::Committed => "read_committed",
            Self::Uncommitted => "read_uncommitted",
        }
    }
}

/// Reads topics without a group.
pub struct Reader {
    consumer: BaseConsumer,
    start: TopicPartitionList,
    bootstrap: String,
}

impl Reader {
    /// Starts at the beginning of every partition of the topics, `read_committed`.
    pub fn open(bootstrap: &str, topics: &[&str]) -> Result<Self> {
        Self::open_at(bootstrap, topics, Isolation::Committed)
    }

    /// Starts at the beginning of every partition of the topics.
    pub fn open_at(bootstrap: &str, topics: &[&str], isolation: Isolation) -> Result<Self> {
        Self::open_from(bootstrap, topics, isolation, Offset::Beginning)
    }

    /// Reads only what is still to come, `read_committed`.
    pub fn open_at_end(bootstrap: &str, topics: &[&str]) -> Result<Self> {
        Self::open_from(bootstrap, topics, Isolation::Committed, Offset::End)
    }

    fn open_from(
        bootstrap: &str,
        topics: &[&str],
        isolation: Isolation,
        from: Offset,
    ) -> Result<Self> {
        let consumer = consumer(bootstrap, isolation)?;
        let mut start = TopicPartitionList::new();
        for topic in topics {
            let metadata = consumer.fetch_metadata(Some(topic), METADATA)?;
            let found = metadata.topics().first().context("no metadata")?;
            for partition in found.partitions() {
                start.add_partition_offset(topic, partition.id(), from)?;
            }
        }
        if start.count() == 0 {
            bail!("no partitions in {topics:?}");
        }
        consumer.assign(&start)?;
        Ok(Self {
            consumer,
            start,
            bootstrap: bootstrap.to_owned(),
        })
    }

    /// Whether the last stable offset of a partition is below its high watermark now.
    pub fn sees_open_transaction(&self) -> Result<bool> {
        for (place, end) in self.ends()? {
            if Self::end(&self.consumer, &place)? < end {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits until no transaction is open. An end that was seen before that would not be one.
    fn settle(&self) -> Result<()> {
        let until = Instant::now() + QUIET;
        for (place, end) in self.ends()? {
            while Self::end(&self.consumer, &place)? < end {
                if Instant::now() > until {
                    bail!("a transaction below offset {end} of {place:?} stays open");
                }
                std::thread::sleep(STEP);
            }
        }
        Ok(())
    }

    /// Every partition and its high watermark.
    fn ends(&self) -> Result<Vec<((String, i32), i64)>> {
        let all = consumer(&self.bootstrap, Isolation::Uncommitted)?;
        let elements = self.start.elements();
        let places = elements
            .iter()
            .map(|e| (e.topic().to_owned(), e.partition()));
        places
            .map(|place| Ok((place.clone(), Self::end(&all, &place)?)))
            .collect()
    }

    /// Where the partition ends for this consumer.
    fn end(consumer: &BaseConsumer, (topic, partition): &(String, i32)) -> Result<i64> {
        Ok(consumer.fetch_watermarks(topic, *partition, METADATA)?.1)
    }

    /// Reads everything that is there now, from the beginning, and hands it to `see` in each
    /// partition's order. Call it when nothing is produced any more; it waits for open
    /// transactions to end.
    pub fn drain(&self, mut see: impl FnMut(Seen)) -> Result<()> {
        self.drain_records(|message| {
            see(seen(message)?);
            Ok(())
        })
    }

    /// As `drain`, of records that need not be events.
    pub fn drain_records(
        &self,
        mut see: impl FnMut(&BorrowedMessage<'_>) -> Result<()>,
    ) -> Result<()> {
        self.settle()?;
        // Ends that were seen before do not count.
        self.consumer.assign(&self.start)?;
        let total = self.start.count();
        let mut quiet_since = Instant::now();
        // Each partition ends once, and does not grow any more.
        let mut ends = 0;
        while ends < total {
            match self.consumer.poll(STEP) {
                Some(Ok(message)) => {
                    quiet_since = Instant::now();
                    see(&message)?;
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => {
                    ends += 1;
                    quiet_since = Instant::now();
                }
                Some(Err(e)) => return Err(e.into()),
                None if quiet_since.elapsed() > QUIET => bail!("partitions do not end"),
                None => {}
            }
        }
        Ok(())
    }

    /// The next record, if one comes within the time.
    pub fn next(&self, within: Duration) -> Result<Option<Seen>> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            match self.consumer.poll(Duration::from_millis(5)) {
                Some(Ok(message)) => return Ok(Some(seen(&message)?)),
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(e)) => return Err(e.into()),
            }
        }
        Ok(None)
    }
}

fn consumer(bootstrap: &str, isolation: Isolation) -> Result<BaseConsumer> {
    let consumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation.level())
        .set("fetch.wait.max.ms", "5")
        .set("queued.max.messages.kbytes", "65536")
        .create();
    Ok(consumer?)
}

fn seen(message: &impl Message) -> Result<Seen> {
    let text = |bytes: Option<&[u8]>| -> Result<String> {
        Ok(String::from_utf8(bytes.unwrap_or_default().to_vec())?)
    };
    let headers = message.headers().context("a record without headers")?;
    let header = |name: &str| -> Result<String> {
        let found = headers.iter().find(|header| header.key == name);
        text(found.with_context(|| format!("no header {name}"))?.value)
    };
    Ok(Seen {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: text(message.key())?,
        value: text(message.payload())?,
        event_id: header("eventId")?,
        replay: header("replay").ok(),
        position: header("position")?,
        read_at: SystemTime::now(),
    })
}
