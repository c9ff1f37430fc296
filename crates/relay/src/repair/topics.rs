//! Reads what is committed in the topics.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pgoutput::Position;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::config::Pipeline;
use crate::failure::Failure;
use crate::sink::kafka;

const REQUEST: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(50);
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
    let mut config = kafka::client_config(pipeline);
    config
        .set("group.id", "outboxd-repair")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("queued.max.messages.kbytes", "16384");
    let pipeline = pipeline.clone();
    tokio::task::spawn_blocking(move || {
        let reading = Reading {
            config,
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
    config: ClientConfig,
    pipeline: Pipeline,
    scope: Scope,
    sender: mpsc::Sender<Result<Vec<Seen>, Failure>>,
}

/// A topic's partition.
type Place = (String, i32);

impl Reading {
    fn run(&self) -> Result<(), Failure> {
        let consumer = self.consumer("read_committed")?;
        let places = self.places(&consumer)?;
        if places.is_empty() {
            return Ok(());
        }
        if self.scope.is_final {
            self.await_open_transactions(&consumer, &places)?;
        }
        // An end names its partition and not its topic, so topics are read one after the other.
        for of_topic in places.chunk_by(|one, next| one.0 == next.0) {
            let starts = self.starts(&consumer, of_topic)?;
            consumer.assign(&starts).map_err(|e| failed(&e))?;
            self.read_to_the_ends(&consumer, of_topic.len())?;
        }
        Ok(())
    }

    fn consumer(&self, isolation: &str) -> Result<BaseConsumer, Failure> {
        let mut config = self.config.clone();
        config.set("isolation.level", isolation);
        config.create().map_err(|e| failed(&e))
    }

    /// The partitions of every topic that an event of this pipeline may be in.
    fn places(&self, consumer: &BaseConsumer) -> Result<Vec<Place>, Failure> {
        let metadata = consumer.fetch_metadata(None, REQUEST);
        let metadata = metadata.map_err(|e| failed(&e))?;
        let dead_letters = dead_letter_topics(&self.pipeline);
        let wanted = |name: &str| match self.scope.topics.as_slice() {
            [] => self.pipeline.topics.check(name).is_ok() || dead_letters.contains(name),
            named => named.iter().any(|topic| topic == name),
        };
        let topics = metadata.topics().iter().filter(|t| wanted(t.name()));
        let places = topics.flat_map(|topic| {
            let partitions = topic.partitions().iter();
            partitions.map(|p| (topic.name().to_owned(), p.id()))
        });
        Ok(places.collect())
    }

    fn await_open_transactions(
        &self,
        committed: &BaseConsumer,
        places: &[Place],
    ) -> Result<(), Failure> {
        let all = self.consumer("read_uncommitted")?;
        let deadline = Instant::now() + OPEN_PATIENCE;
        for place in places {
            let end = high_watermark(&all, place)?;
            while high_watermark(committed, place)? < end {
                if Instant::now() > deadline {
                    let (topic, partition) = place;
                    let message = format!(
                        "a transaction on {topic}, partition {partition}, is still open below offset {end}"
                    );
                    return Err(Failure::new("checkpoint-blocked", message));
                }
                std::thread::sleep(STEP);
            }
        }
        Ok(())
    }

    fn starts(
        &self,
        consumer: &BaseConsumer,
        places: &[Place],
    ) -> Result<TopicPartitionList, Failure> {
        let mut list = TopicPartitionList::new();
        let from = match self.scope.from_ms {
            None => Offset::Beginning,
            Some(millis) => Offset::Offset(millis.max(0)),
        };
        for (topic, partition) in places {
            let added = list.add_partition_offset(topic, *partition, from);
            added.map_err(|e| failed(&e))?;
        }
        if self.scope.from_ms.is_none() {
            return Ok(list);
        }
        // The offset of the first record of that time; the end, if there is none.
        let found = consumer.offsets_for_times(list, REQUEST);
        let found = found.map_err(|e| failed(&e))?;
        for element in found.elements() {
            element.error().map_err(|e| failed(&e))?;
        }
        Ok(found)
    }

    fn read_to_the_ends(&self, consumer: &BaseConsumer, partitions: usize) -> Result<(), Failure> {
        let dead_letters = dead_letter_topics(&self.pipeline);
        let mut batch = Vec::with_capacity(BATCH);
        let mut ended = HashSet::new();
        let mut heard = Instant::now();
        loop {
            match consumer.poll(STEP) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    batch.extend(seen(&message, &dead_letters));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                    heard = Instant::now();
                }
                Some(Err(e)) => return Err(failed(&e)),
                None => {}
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

/// Where the events of the pipeline's services end up that can't be published.
fn dead_letter_topics(pipeline: &Pipeline) -> HashSet<String> {
    let policies = pipeline.table_policies().into_iter();
    policies.map(|policy| policy.dead_letter_topic).collect()
}

fn high_watermark(consumer: &BaseConsumer, (topic, partition): &Place) -> Result<i64, Failure> {
    let (_, high) = consumer
        .fetch_watermarks(topic, *partition, REQUEST)
        .map_err(|e| failed(&e))?;
    Ok(high)
}

fn failed(error: &KafkaError) -> Failure {
    kafka::failure("reading the topics", error)
}

/// The event of a record, if it is one.
fn seen(message: &BorrowedMessage<'_>, dead_letters: &HashSet<String>) -> Option<Seen> {
    let headers = message.headers()?;
    let header = |name: &str| {
        let found = headers.iter().find(|header| header.key == name)?;
        Some(std::str::from_utf8(found.value?).ok()?.to_owned())
    };
    Some(Seen {
        event_id: header(envelope::EVENT_ID_HEADER)?,
        event_type: header(envelope::TYPE_HEADER)?,
        position: header(envelope::POSITION_HEADER).and_then(|text| text.parse().ok()),
        topic: message.topic().to_owned(),
        is_dead_letter: dead_letters.contains(message.topic()),
    })
}
