//! Reads what is committed in the topics of a pipeline: to compare them with its tables, and to find
//! events.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::config::Pipeline;
use crate::failure::Failure;
use crate::sink::{Committed, Look};

/// Row and record of an event may be this far apart: by transactions that take long, and by clocks.
pub const MARGIN_MS: i64 = 3_600_000;
/// Without a record or an end for so long the brokers are taken as away.
const SILENCE: Duration = Duration::from_secs(60);
/// Open transactions of others are waited for so long.
const OPEN_PATIENCE: Duration = Duration::from_secs(120);
/// A broker that has just become the leader may show an end that is none.
const AFTER_THE_ENDS: Duration = Duration::from_secs(1);
/// What is found is handed over together, and at the latest after so many records.
const BATCH: usize = 1_000;
const LOOKED_AT: u64 = 20_000;
/// Batches on their way.
const BATCHES: usize = 4;

/// What to read.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// Which topics.
    pub topics: Topics,
    /// Records of this time or later, milliseconds since 1970; `None`: all.
    pub from_ms: Option<i64>,
    /// Up to the first record of this time or later; `None`: to the end.
    pub until_ms: Option<i64>,
    /// Which transactions that are open now are waited for.
    pub open: Open,
}

/// Topics of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topics {
    /// Every one that an event may be in, dead or not.
    All,
    /// Every one that routing may use.
    Events,
    /// These.
    Named(Vec<String>),
}

impl Topics {
    /// These, or all if there are none.
    pub fn named_or_all(named: &[String]) -> Self {
        match named {
            [] => Self::All,
            named => Self::Named(named.to_vec()),
        }
    }

    /// Whether a topic is one of them.
    pub fn has(&self, pipeline: &Pipeline, name: &str) -> bool {
        let is_routed = || pipeline.topics.check(name).is_ok();
        match self {
            Self::All => is_routed() || pipeline.dead_letter_topics(None).contains(name),
            Self::Events => is_routed(),
            Self::Named(named) => named.iter().any(|topic| topic == name),
        }
    }
}

/// What becomes of transactions that are open when the reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// The reading ends before them.
    PassedOver,
    /// They are waited for: nothing that may still be committed is missed.
    Awaited,
}

/// What was found since the last batch.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    pub found: Vec<T>,
    /// Records that were looked at.
    pub looked_at: u64,
}

/// Reads on a thread of its own; batches of what `take` makes of the records come until the channel
/// ends. The thread ends with the receiver.
pub(crate) fn read<T: Send + 'static>(
    pipeline: &Pipeline,
    scope: Scope,
    take: impl FnMut(&BorrowedMessage<'_>) -> Option<T> + Send + 'static,
) -> mpsc::Receiver<Result<Batch<T>, Failure>> {
    let (sender, batches) = mpsc::channel(BATCHES);
    let pipeline = pipeline.clone();
    tokio::task::spawn_blocking(move || {
        let reading = Reading { pipeline, scope };
        let mut collected = Collected {
            take,
            found: Vec::new(),
            looked_at: 0,
            sender,
        };
        if let Err(failure) = reading.run(&mut collected) {
            let _ = collected.sender.blocking_send(Err(failure));
        }
    });
    batches
}

/// A header's name and value.
pub(crate) type Header<'a> = (&'a str, Option<&'a [u8]>);

/// All headers, in order.
pub(crate) fn headers<'m>(message: &'m BorrowedMessage<'_>) -> Vec<Header<'m>> {
    let headers = message.headers().into_iter();
    let headers = headers.flat_map(|headers| headers.iter());
    headers.map(|header| (header.key, header.value)).collect()
}

/// The value of the first header of that name, as text.
pub(crate) fn header<'m>(message: &'m BorrowedMessage<'_>, name: &str) -> Option<&'m str> {
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}

/// As [`header`], of headers that are at hand.
pub(crate) fn text<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(found, _)| *found == name)?;
    std::str::from_utf8((*value)?).ok()
}

struct Reading {
    pipeline: Pipeline,
    scope: Scope,
}

/// A topic's partition.
type Place = (String, i32);

impl Reading {
    fn run<T, F>(&self, collected: &mut Collected<T, F>) -> Result<(), Failure>
    where
        F: FnMut(&BorrowedMessage<'_>) -> Option<T>,
    {
        let attempt = "reading the topics".to_owned();
        let ahead = [("queued.max.messages.kbytes", "16384")];
        let committed = Committed::open(&self.pipeline, "outboxd-topic-reader", &ahead, attempt)?;
        let places = committed.partitions(|name| self.scope.topics.has(&self.pipeline, name))?;
        match self.scope.open {
            Open::Awaited => {
                let deadline = Instant::now() + OPEN_PATIENCE;
                for (topic, partition) in &places {
                    committed.settled(topic, *partition, deadline, "checkpoint-blocked")?;
                }
            }
            Open::PassedOver => {}
        }
        // An end names its partition and not its topic, so topics are read one after the other.
        for of_topic in places.chunk_by(|one, next| one.0 == next.0) {
            let ends = ends(&committed, of_topic, self.scope.until_ms)?;
            committed.assign(&starts(&committed, of_topic, self.scope.from_ms)?)?;
            if !read_to_the_ends(&committed, Unread { of_topic, ends }, collected)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn starts(
    committed: &Committed,
    places: &[Place],
    from_ms: Option<i64>,
) -> Result<TopicPartitionList, Failure> {
    match from_ms {
        // The offset of the first record of that time; the end, if there is none.
        Some(millis) => committed.at_time(places, millis),
        None => committed.list(places, Offset::Beginning),
    }
}

/// Where to end: at a time, or at what is the end now, or a topic that is written to would never be read.
fn ends(
    committed: &Committed,
    places: &[Place],
    until_ms: Option<i64>,
) -> Result<HashMap<i32, i64>, Failure> {
    let mut ends = HashMap::new();
    for (topic, partition) in places {
        ends.insert(*partition, committed.ends(topic, *partition)?.1);
    }
    let Some(millis) = until_ms else {
        return Ok(ends);
    };
    let found = committed.at_time(places, millis)?;
    let end = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element
        .offset()
    {
        Offset::Offset(offset) => Some((element.partition(), offset)),
        _ => None,
    };
    ends.extend(found.elements().iter().filter_map(end));
    Ok(ends)
}

/// The partitions of a topic that are being read.
struct Unread<'a> {
    of_topic: &'a [Place],
    /// The offset at which each ends.
    ends: HashMap<i32, i64>,
}

impl Unread<'_> {
    fn is_beyond(&self, partition: i32, offset: i64) -> bool {
        self.ends.get(&partition).is_some_and(|end| offset >= *end)
    }

    /// No more is fetched of a partition that has been read as far as is wanted.
    fn pause(&self, committed: &Committed, partition: i32) -> Result<(), Failure> {
        let place = self.of_topic.iter().filter(|(_, p)| *p == partition);
        let mut list = TopicPartitionList::new();
        for (topic, partition) in place {
            list.add_partition(topic, *partition);
        }
        let paused = committed.consumer().pause(&list);
        paused.map_err(|e| committed.failed(&e))
    }
}

/// What is found until it is handed over.
struct Collected<T, F> {
    take: F,
    found: Vec<T>,
    looked_at: u64,
    sender: mpsc::Sender<Result<Batch<T>, Failure>>,
}

impl<T, F> Collected<T, F>
where
    F: FnMut(&BorrowedMessage<'_>) -> Option<T>,
{
    fn add(&mut self, message: &BorrowedMessage<'_>) {
        self.looked_at += 1;
        let found = (self.take)(message);
        self.found.extend(found);
    }

    fn is_full(&self) -> bool {
        self.found.len() >= BATCH || self.looked_at >= LOOKED_AT
    }

    /// Whether somebody still wants it.
    fn hand_over(&mut self) -> bool {
        let batch = Batch {
            found: std::mem::take(&mut self.found),
            looked_at: std::mem::take(&mut self.looked_at),
        };
        self.sender.blocking_send(Ok(batch)).is_ok()
    }
}

/// Whether there is somebody to go on for.
fn read_to_the_ends<T, F>(
    committed: &Committed,
    unread: Unread<'_>,
    collected: &mut Collected<T, F>,
) -> Result<bool, Failure>
where
    F: FnMut(&BorrowedMessage<'_>) -> Option<T>,
{
    let mut ended = std::collections::HashSet::new();
    let mut heard = Instant::now();
    loop {
        match committed.look()? {
            Look::Record(message) if unread.is_beyond(message.partition(), message.offset()) => {
                heard = Instant::now();
                if ended.insert(message.partition()) {
                    unread.pause(committed, message.partition())?;
                }
            }
            Look::Record(message) => {
                heard = Instant::now();
                collected.add(&message);
            }
            Look::End(partition) => {
                ended.insert(partition);
                heard = Instant::now();
            }
            Look::Nothing => {}
        }
        let all_ended = ended.len() >= unread.of_topic.len();
        let is_due = collected.is_full() || (all_ended && collected.looked_at > 0);
        if is_due && !collected.hand_over() {
            return Ok(false);
        }
        if all_ended && heard.elapsed() > AFTER_THE_ENDS {
            return Ok(true);
        }
        if heard.elapsed() > SILENCE {
            let message = "reading the topics: the brokers have sent nothing for 60 s";
            return Err(Failure::new("kafka-unreachable", message));
        }
    }
}
