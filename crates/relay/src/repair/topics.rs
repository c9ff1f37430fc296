//! Reads what is committed in the topics.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use pgoutput::Position;
use rdkafka::consumer::Consumer;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::config::Pipeline;
use crate::failure::Failure;
use crate::sink::{Committed, Look};

const REQUEST: Duration = Duration::from_secs(10);
/// Without a record or an end for so long the brokers are taken as away.
const SILENCE: Duration = Duration::from_secs(60);
/// Open transactions of others are waited for so long.
const OPEN_PATIENCE: Duration = Duration::from_secs(120);
/// A broker that has just become the leader may show an end that is none.
const AFTER_THE_ENDS: Duration = Duration::from_secs(1);
/// Events handed over together.
const BATCH: usize = 1_000;
/// Batches on their way.
const BATCHES: usize = 4;

/// A record.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub event_id: String,
    pub event_type: String,
    pub topic: String,
    /// Where the change stood in the stream.
    pub position: Option<Position>,
    pub is_dead_letter: bool,
}

/// What to read.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// Only these, if there are any.
    pub topics: Vec<String>,
    /// Records of this time or later, milliseconds since 1970; `None`: all.
    pub from_ms: Option<i64>,
    /// Whether transactions that are open now are waited for: nothing that may still be committed
    /// is missed then.
    pub is_final: bool,
}

/// Reads on a thread of its own; batches come until the channel ends.
pub(super) fn read(
    pipeline: &Pipeline,
    scope: Scope,
) -> mpsc::Receiver<Result<Vec<Seen>, Failure>> {
    let (sender, batches) = mpsc::channel(BATCHES);
    let pipeline = pipeline.clone();
    tokio::task::spawn_blocking(move || {
        let reading = Reading {
            pipeline,
            scope,
            sender,
        };
        if let Err(failure) = reading.run() {
            let _ = reading.sender.blocking_send(Err(failure));
        }
    });
    batches
}

struct Reading {
    pipeline: Pipeline,
    scope: Scope,
    sender: mpsc::Sender<Result<Vec<Seen>, Failure>>,
}

/// A topic's partition.
type Place = (String, i32);

impl Reading {
    fn run(&self) -> Result<(), Failure> {
        let attempt = "reading the topics".to_owned();
        let ahead = [("queued.max.messages.kbytes", "16384")];
        let committed = Committed::open(&self.pipeline, "outboxd-repair", &ahead, attempt)?;
        let places = self.places(&committed)?;
        if self.scope.is_final {
            let deadline = Instant::now() + OPEN_PATIENCE;
            for (topic, partition) in &places {
                committed.settled(topic, *partition, deadline, "checkpoint-blocked")?;
            }
        }
        // An end names its partition and not its topic, so topics are read one after the other.
        for of_topic in places.chunk_by(|one, next| one.0 == next.0) {
            committed.assign(&self.starts(&committed, of_topic)?)?;
            self.read_to_the_ends(&committed, of_topic.len())?;
        }
        Ok(())
    }

    /// The partitions of every topic that an event of this pipeline may be in.
    fn places(&self, committed: &Committed) -> Result<Vec<Place>, Failure> {
        let dead_letters = self.pipeline.dead_letter_topics(None);
        committed.partitions(|name| match self.scope.topics.as_slice() {
            [] => self.pipeline.topics.check(name).is_ok() || dead_letters.contains(name),
            named => named.iter().any(|topic| topic == name),
        })
    }

    fn starts(
        &self,
        committed: &Committed,
        places: &[Place],
    ) -> Result<TopicPartitionList, Failure> {
        let failed = |e| committed.failed(&e);
        let mut list = TopicPartitionList::new();
        let from = match self.scope.from_ms {
            None => Offset::Beginning,
            Some(millis) => Offset::Offset(millis.max(0)),
        };
        for (topic, partition) in places {
            let added = list.add_partition_offset(topic, *partition, from);
            added.map_err(failed)?;
        }
        if self.scope.from_ms.is_none() {
            return Ok(list);
        }
        // The offset of the first record of that time; the end, if there is none.
        let found = committed.consumer().offsets_for_times(list, REQUEST);
        let found = found.map_err(failed)?;
        for element in found.elements() {
            element.error().map_err(failed)?;
        }
        Ok(found)
    }

    fn read_to_the_ends(&self, committed: &Committed, partitions: usize) -> Result<(), Failure> {
        let dead_letters = self.pipeline.dead_letter_topics(None);
        let mut batch = Vec::with_capacity(BATCH);
        let mut ended = HashSet::new();
        let mut heard = Instant::now();
        loop {
            match committed.look()? {
                Look::Record(message) => {
                    heard = Instant::now();
                    batch.extend(seen(&message, &dead_letters));
                }
                Look::End(partition) => {
                    ended.insert(partition);
                    heard = Instant::now();
                }
                Look::Nothing => {}
            }
            let all_ended = ended.len() >= partitions;
            if batch.len() >= BATCH || (all_ended && !batch.is_empty()) {
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                if self.sender.blocking_send(Ok(full)).is_err() {
                    return Ok(());
                }
            }
            if all_ended && heard.elapsed() > AFTER_THE_ENDS {
                return Ok(());
            }
            if heard.elapsed() > SILENCE {
                let message = "reading the topics: the brokers have sent nothing for 60 s";
                return Err(Failure::new("kafka-unreachable", message));
            }
        }
    }
}

/// The event of a record, if it is one.
fn seen(message: &BorrowedMessage<'_>, dead_letters: &BTreeSet<&str>) -> Option<Seen> {
    let headers = message.headers()?;
    let header = |name: &str| {
        let found = headers.iter().find(|header| header.key == name)?;
        Some(std::str::from_utf8(found.value?).ok()?.to_owned())
    };
    Some(Seen {
        event_id: header(envelope::EVENT_ID_HEADER)?,
        // A dead letter may be of a row without one.
        event_type: header(envelope::TYPE_HEADER).unwrap_or_default(),
        position: header(envelope::POSITION_HEADER).and_then(|text| text.parse().ok()),
        topic: message.topic().to_owned(),
        is_dead_letter: dead_letters.contains(message.topic()),
    })
}
