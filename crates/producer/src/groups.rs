//! How far consumer groups are, and what comes next for them.

use std::collections::HashMap;
use std::ffi::CString;
use std::time::{Duration, Instant};

use crate::record::TopicCache;
use crate::{ClientError, CreateError, config, ffi};

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
}

/// A place of a partition that its leader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The first record that is kept.
    First,
    /// Behind the last record whose transaction has ended: the last stable offset.
    Stable,
    /// Behind the last record, also of a transaction that is open.
    Written,
}

/// What comes next in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A record of no transaction, or of one that is committed.
    Record {
        /// Its offset.
        offset: i64,
        /// Its time, milliseconds since 1970-01-01 UTC, if it has one.
        timestamp_ms: Option<i64>,
    },
    /// No record below this offset, at which the stable part of the partition ends.
    End {
        /// The last stable offset.
        offset: i64,
    },
    /// The broker refuses it, or what is asked for is not there any more.
    Refused(ClientError),
}

/// Asks about groups without joining them: it commits nothing, and needs no group of its own.
pub struct GroupReader {
    // Before the client, which must outlive them.
    topics: TopicCache,
    client: ffi::Client,
}

/// So that a look takes one fetch, as a rule of one batch: the broker gives no less, and the client asks
/// again with more only where a batch does not fit.
const SMALL_FETCHES: [(&str, &str); 8] = [
    ("isolation.level", "read_committed"),
    ("enable.partition.eof", "true"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("fetch.message.max.bytes", "16384"),
    ("fetch.wait.max.ms", "100"),
    ("queued.min.messages", "1"),
];

impl GroupReader {
    /// Creates a client from librdkafka properties. Nothing is contacted yet.
    pub fn new<'a>(
        properties: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, CreateError> {
        let properties = properties.into_iter().chain(SMALL_FETCHES);
        let client = ffi::Client::new(config::build(properties)?, ffi::Kind::Consumer)?;
        Ok(Self {
            topics: TopicCache::default(),
            client,
        })
    }

    /// All partitions that may be seen, and whether each has a leader that could be asked.
    pub fn partitions(
        &self,
        timeout: Duration,
    ) -> Result<HashMap<TopicPartition, bool>, ClientError> {
        Ok(self.client.partitions(timeout)?.into_iter().collect())
    }

    /// The offsets that a group has committed; none if there is no such group.
    pub fn committed(
        &self,
        group: &str,
        timeout: Duration,
    ) -> Result<HashMap<TopicPartition, i64>, ClientError> {
        self.serve();
        let Ok(group) = CString::new(group) else {
            return Ok(HashMap::new());
        };
        let mut committed = HashMap::new();
        for (place, offset) in self.client.committed(&group, timeout)? {
            // A negative one is none.
            let offset = offset?;
            if offset >= 0 {
                committed.insert(place, offset);
            }
        }
        Ok(committed)
    }

    /// Asks the leaders of partitions for an edge of each: one request for each broker. Nothing is said of
    /// any while one of them has no leader.
    pub fn offsets(
        &self,
        edge: Edge,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<HashMap<TopicPartition, Result<i64, ClientError>>, ClientError> {
        if partitions.is_empty() {
            return Ok(HashMap::new());
        }
        let names = partitions
            .iter()
            .filter_map(|place| Some((CString::new(&*place.topic).ok()?, place.partition)));
        let names: Vec<_> = names.collect();
        let named: Vec<_> = names.iter().map(|(name, n)| (&**name, *n)).collect();
        let said = self.client.offsets(edge, &named, timeout)?;
        Ok(said.into_iter().collect())
    }

    /// Looks for the next record of each partition, from an offset on; none must stand twice. What has
    /// not been answered in time is missing in the result.
    pub fn next_records(
        &mut self,
        from: &[(TopicPartition, i64)],
        timeout: Duration,
    ) -> HashMap<TopicPartition, Found> {
        let deadline = Instant::now() + timeout;
        let mut answers = HashMap::new();
        let mut handles = HashMap::new();
        for (place, _) in from {
            if let Ok(topic) = self.topics.handle(&self.client, &place.topic) {
                handles.insert(place, topic);
            }
        }
        let mut fetching = self.client.fetching();
        for (place, offset) in from {
            let started = handles
                .get(place)
                .map(|topic| fetching.start(*topic, place.partition, *offset));
            if let Some(Err(refusal)) = started {
                answers.insert(place.clone(), Found::Refused(refusal));
            }
        }
        while answers.len() < from.len() {
            let wait = deadline.saturating_duration_since(Instant::now());
            let Some((place, found)) = fetching.next(wait) else {
                break;
            };
            // Its next fetch is not wanted any more.
            if let Some(topic) = handles.get(&place) {
                fetching.stop(*topic, place.partition);
                answers.entry(place).or_insert(found);
            }
        }
        answers
    }

    /// Takes errors and log lines out of the client's queue, where nobody else looks.
    fn serve(&self) {
        while self.client.next_event(Duration::ZERO).is_some() {}
    }
}
