//! What a consumer shows of itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::order::Progress;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByTopic {
    service: Arc<str>,
    topic: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByClass {
    service: Arc<str>,
    topic: Arc<str>,
    class: &'static str,
}

/// Counters and lag of one consumer.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    service: Arc<str>,
    handled: Family<ByTopic, Counter>,
    duplicates: Family<ByTopic, Counter>,
    skipped: Family<ByTopic, Counter>,
    retries: Family<ByTopic, Counter>,
    dead_letters: Family<ByClass, Counter>,
    pub lag: Lag,
}

impl Metrics {
    pub fn new(service: &str) -> Self {
        Self {
            service: service.into(),
            handled: Family::default(),
            duplicates: Family::default(),
            skipped: Family::default(),
            retries: Family::default(),
            dead_letters: Family::default(),
            lag: Lag::default(),
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("handled", "Events handled", &self.handled),
            (
                "duplicates",
                "Events that were handled before",
                &self.duplicates,
            ),
            (
                "skipped",
                "Events of a type without a handler, passed over",
                &self.skipped,
            ),
            (
                "retries",
                "Failures after which an event is tried again",
                &self.retries,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(format!("event_consumer_{name}"), help, counter.clone());
        }
        let help = "Events that became dead letters";
        registry.register(
            "event_consumer_dead_letters",
            help,
            self.dead_letters.clone(),
        );
        let service = Arc::clone(&self.service);
        let lag = self.lag.clone();
        registry.register_collector(Box::new(LagCollector { service, lag }));
    }

    fn topic(&self, topic: &Arc<str>) -> ByTopic {
        ByTopic {
            service: Arc::clone(&self.service),
            topic: Arc::clone(topic),
        }
    }

    pub fn handled(&self, topic: &Arc<str>) {
        self.handled.get_or_create(&self.topic(topic)).inc();
    }

    pub fn duplicate(&self, topic: &Arc<str>) {
        self.duplicates.get_or_create(&self.topic(topic)).inc();
    }

    pub fn skipped(&self, topic: &Arc<str>) {
        self.skipped.get_or_create(&self.topic(topic)).inc();
    }

    pub fn retry(&self, topic: &Arc<str>) {
        self.retries.get_or_create(&self.topic(topic)).inc();
    }

    pub fn dead_letter(&self, topic: &Arc<str>, class: &'static str) {
        let ByTopic { service, topic } = self.topic(topic);
        let labels = ByClass {
            service,
            topic,
            class,
        };
        self.dead_letters.get_or_create(&labels).inc();
    }
}

/// Age of the oldest event that is not handled, by topic: of the partitions that this consumer reads.
///
/// It is exactly 0 when everything is handled up to the end of each partition; the markers that
/// transactions leave there do not count.
///
/// ```no_run
/// # async fn run(consumer: inbox::Consumer) -> Result<(), inbox::Error> {
/// let lag = consumer.lag();
/// let running = consumer.run();
/// // Elsewhere, meanwhile:
/// let is_late = lag.of("transfers.settled").is_some_and(|lag| lag.as_secs() > 30);
/// # let _ = is_late;
/// # running.await
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Lag(Arc<Mutex<ByPartition>>);

type ByPartition = BTreeMap<(Arc<str>, i32), Progress>;

impl Lag {
    /// The lag of a topic; `None` while none of its partitions is assigned.
    pub fn of(&self, topic: &str) -> Option<Duration> {
        self.all().remove(topic)
    }

    /// The lag of every topic of which a partition is assigned.
    pub fn all(&self) -> BTreeMap<Arc<str>, Duration> {
        let now_ms = now_ms();
        let mut by_topic = BTreeMap::new();
        self.with(|partitions| {
            for ((topic, _), progress) in partitions {
                let lag_ms = u64::try_from(progress.lag_ms(now_ms)).unwrap_or_default();
                let lag = Duration::from_millis(lag_ms);
                let oldest = by_topic.entry(Arc::clone(topic)).or_insert(lag);
                *oldest = lag.max(*oldest);
            }
        });
        by_topic
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut ByPartition) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn progress<T>(
        &self,
        place: &(Arc<str>, i32),
        look: impl FnOnce(&mut Progress) -> T,
    ) -> Option<T> {
        self.with(|partitions| partitions.get_mut(place).map(look))
    }
}

/// Milliseconds since 1970-01-01 UTC.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ms = since.unwrap_or_default().as_millis();
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// Microseconds since then.
pub(crate) fn now_us() -> u128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_micros()
}

/// Reckons the lag when it is asked for: it grows also while the consumer stands.
#[derive(Debug)]
struct LagCollector {
    service: Arc<str>,
    lag: Lag,
}

impl Collector for LagCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(0.0_f64);
        let mut metric: MetricEncoder<'_> = encoder.encode_descriptor(
            "event_consumer_lag_seconds",
            "Age of the oldest event not yet handled, 0 when caught up",
            None,
            gauge.metric_type(),
        )?;
        for (topic, lag) in self.lag.all() {
            let service = Arc::clone(&self.service);
            let labels = ByTopic { service, topic };
            let encoder = metric.encode_family(&labels)?;
            ConstGauge::new(lag.as_secs_f64()).encode(encoder)?;
        }
        Ok(())
    }
}
