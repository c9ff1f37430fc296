//! Lag of consumer groups: what is known of it, and how it is shown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;

use super::table;
use super::vitals::LastFailure;
use crate::config::{ConsumerSpec, Pipeline};
use crate::failure::Failure;

/// How long an answer counts, beside the time between two rounds: as in the consumer library.
pub const PROOF_LASTS: Duration = Duration::from_secs(5);

/// What is known of one topic, over the partitions that a group reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicLag {
    /// Time of the oldest event that is not handled, in milliseconds since 1970-01-01 UTC.
    oldest_ms: Option<i64>,
    /// Since when it has not been known what comes next.
    unknown_since: Option<Instant>,
    /// Since when nobody has said that a partition without such events still is.
    proven: Option<Instant>,
    /// Offsets that are not handled.
    pub records: u64,
}

impl TopicLag {
    /// An event of this time comes next in a partition.
    pub fn event(&mut self, timestamp_ms: i64) {
        let oldest = self
            .oldest_ms
            .map_or(timestamp_ms, |known| known.min(timestamp_ms));
        self.oldest_ms = Some(oldest);
    }

    /// What comes next in a partition has not been known since then.
    pub fn unknown(&mut self, since: Instant) {
        let since = self.unknown_since.map_or(since, |known| known.min(since));
        self.unknown_since = Some(since);
    }

    /// The group is done with a partition, as was said at this time.
    pub fn caught_up(&mut self, proven: Instant) {
        let proven = self.proven.map_or(proven, |known| known.min(proven));
        self.proven = Some(proven);
    }

    /// Age of the oldest event that is not handled; exactly 0 when caught up. Where it can't be known, the
    /// time since it last could.
    pub fn age(&self, now: Instant, now_ms: i64, proof: Duration) -> Duration {
        let since = |at: Instant| now.saturating_duration_since(at);
        let event = self.oldest_ms.map(|oldest_ms| {
            let age_ms = u64::try_from(now_ms.saturating_sub(oldest_ms)).unwrap_or_default();
            Duration::from_millis(age_ms)
        });
        let unproven = self.proven.map(since).filter(|age| *age > proof);
        let ages = [event, self.unknown_since.map(since), unproven];
        ages.into_iter().flatten().max().unwrap_or_default()
    }
}

/// What is known of one group.
#[derive(Debug, Clone)]
pub struct GroupLag {
    group: String,
    service: String,
    /// By topic.
    pub topics: BTreeMap<String, TopicLag>,
    /// When the lag of every partition was last known.
    pub confirmed: Option<Instant>,
    /// Why it is not known now, and since when.
    pub failure: Option<(Failure, Instant)>,
}

impl GroupLag {
    /// Nothing is known yet.
    pub fn new(spec: &ConsumerSpec) -> Self {
        Self {
            group: spec.group.clone(),
            service: spec.service.clone(),
            topics: BTreeMap::new(),
            confirmed: None,
            failure: None,
        }
    }

    /// What passes by itself counts only once it has lasted.
    fn is_stale(&self, now: Instant, proof: Duration) -> bool {
        let is_lasting = |(failure, _): &(Failure, Instant)| !failure.is_transient();
        let is_old = |at: Instant| now.saturating_duration_since(at) > proof;
        self.failure.as_ref().is_some_and(is_lasting) || self.confirmed.is_none_or(is_old)
    }

    fn shown(&self, now: Instant, now_ms: i64, proof: Duration) -> ConsumerShown {
        let topics = self.topics.iter().map(|(topic, lag)| TopicShown {
            topic: topic.clone(),
            lag_seconds: lag.age(now, now_ms, proof).as_secs_f64(),
            lag_records: lag.records,
        });
        ConsumerShown {
            group: self.group.clone(),
            service: self.service.clone(),
            stale: self.is_stale(now, proof),
            topics: topics.collect(),
            failure: self.failure.as_ref().map(LastFailure::from),
        }
    }
}

/// A group's part of /status.
#[derive(Debug, Clone, Serialize)]
pub struct ConsumerShown {
    group: String,
    service: String,
    /// Whether its lag can't be brought up to date.
    stale: bool,
    topics: Vec<TopicShown>,
    failure: Option<LastFailure>,
}

#[derive(Debug, Clone, Serialize)]
struct TopicShown {
    topic: String,
    lag_seconds: f64,
    lag_records: u64,
}

/// Shared between the thread that asks and those who show.
#[derive(Debug)]
pub struct ConsumerLags {
    specs: Vec<ConsumerSpec>,
    proof: Duration,
    groups: Mutex<Vec<GroupLag>>,
}

impl ConsumerLags {
    /// Nothing is known yet.
    pub fn new(pipeline: &Pipeline) -> Self {
        let lags = Self {
            specs: pipeline.consumers.clone(),
            proof: PROOF_LASTS + pipeline.consumer_lag.interval,
            groups: Mutex::default(),
        };
        lags.forget();
        lags
    }

    fn lock(&self) -> MutexGuard<'_, Vec<GroupLag>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a round has found.
    pub fn show(&self, groups: Vec<GroupLag>) {
        *self.lock() = groups;
    }

    /// It is another relay's to say.
    pub fn forget(&self) {
        *self.lock() = self.specs.iter().map(GroupLag::new).collect();
    }

    /// Every group, as of now.
    pub fn shown(&self) -> Vec<ConsumerShown> {
        let groups = self.lock();
        let (now, now_ms) = (Instant::now(), now_ms());
        let shown = groups
            .iter()
            .map(|group| group.shown(now, now_ms, self.proof));
        shown.collect()
    }
}

/// Milliseconds since 1970-01-01 UTC.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.unwrap_or_default().as_millis();
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByTopic {
    service: String,
    topic: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByService {
    service: String,
}

/// What the next exposition says of consumers. It replaces what the last one said, so that a group that is
/// not there any more leaves no series behind.
#[derive(Debug, Clone, Default)]
pub(super) struct ConsumerCollector(Arc<Mutex<Vec<ConsumerShown>>>);

impl ConsumerCollector {
    /// Nothing said yet.
    pub fn registered(registry: &mut Registry) -> Self {
        let collector = Self::default();
        registry.register_collector(Box::new(collector.clone()));
        collector
    }

    pub fn show(&self, shown: Vec<ConsumerShown>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }
}

impl Collector for ConsumerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by_topic = |value: fn(&TopicShown) -> f64| {
            let of = move |consumer: &ConsumerShown| {
                let service = consumer.service.clone();
                let sample = move |topic: &TopicShown| {
                    let labels = ByTopic {
                        service: service.clone(),
                        topic: topic.topic.clone(),
                    };
                    (labels, value(topic))
                };
                consumer.topics.iter().map(sample).collect::<Vec<_>>()
            };
            shown.iter().flat_map(of)
        };
        let stale = shown.iter().map(|consumer| {
            let service = consumer.service.clone();
            (ByService { service }, f64::from(u8::from(consumer.stale)))
        });
        gauges(
            &mut encoder,
            "event_consumer_lag",
            table::CONSUMER_LAG.meaning,
            Some(&Unit::Seconds),
            by_topic(|topic| topic.lag_seconds),
        )?;
        gauges(
            &mut encoder,
            "event_consumer_lag_records",
            table::CONSUMER_LAG_RECORDS.meaning,
            None,
            by_topic(|topic| topic.lag_records as f64),
        )?;
        gauges(
            &mut encoder,
            "event_consumer_lag_stale",
            table::CONSUMER_LAG_STALE.meaning,
            None,
            stale,
        )
    }
}

fn gauges<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    samples: impl Iterator<Item = (L, f64)>,
) -> Result<(), std::fmt::Error> {
    let mut samples = samples.peekable();
    if samples.peek().is_none() {
        return Ok(());
    }
    let gauge = ConstGauge::new(0.0_f64);
    let mut metric = encoder.encode_descriptor(name, help, unit, gauge.metric_type())?;
    for (labels, value) in samples {
        let encoder = metric.encode_family(&labels)?;
        ConstGauge::new(value).encode(encoder)?;
    }
    Ok(())
}
