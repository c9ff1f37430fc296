//! What a consumer is to do.

use std::time::Duration;

use deadpool_postgres::Pool;
use event::envelope::Format;
use prometheus_client::registry::Registry;
use rdkafka::ClientConfig;

use crate::consumer::Consumer;
use crate::dead_letter::DeadLetters;
use crate::error::Error;
use crate::handlers::Handlers;
use crate::kafka;
use crate::metrics::Metrics;
use crate::order::Retry;
use crate::retention::Retention;
use crate::settings::Settings;
use crate::work::{Letters, Once, Worker};

/// Makes a [`Consumer`].
///
/// ```no_run
/// use std::time::Duration;
///
/// use inbox::{Consumer, Handlers, Pool, Retention, Retry};
///
/// # fn build(pool: Pool, handlers: Handlers) -> Result<Consumer, inbox::Error> {
/// let day = Duration::from_secs(24 * 3600);
/// Consumer::builder("ledger")
///     .brokers("kafka-1:9093,kafka-2:9093")
///     .property("security.protocol", "ssl")
///     .topics(["transfers.settled", "transfers.reversed"])
///     .database(pool)
///     .handlers(handlers)
///     .batch(100)
///     .concurrency(4)
///     .retry(Retry::attempts(10).backoff(Duration::from_millis(50), Duration::from_secs(60)))
///     .retention(Retention::keep(14 * day).replay_horizon(7 * day))
///     .build()
/// # }
/// ```
#[must_use]
#[derive(Debug)]
pub struct ConsumerBuilder {
    name: String,
    group: Option<String>,
    kafka: ClientConfig,
    pool: Option<Pool>,
    handlers: Handlers,
    dead_letters: Option<String>,
    retention: Option<Retention>,
    metrics: Metrics,
    settings: Settings,
}

impl ConsumerBuilder {
    pub(crate) fn new(name: String) -> Self {
        Self {
            metrics: Metrics::new(&name),
            name,
            group: None,
            kafka: ClientConfig::new(),
            pool: None,
            handlers: Handlers::new(),
            dead_letters: None,
            retention: None,
            settings: Settings::default(),
        }
    }

    /// The brokers, as `host:port`, separated by commas.
    pub fn brokers(self, bootstrap: impl Into<String>) -> Self {
        self.property("bootstrap.servers", bootstrap)
    }

    /// Any property of librdkafka, for security or tuning. What exactly once depends on can't be changed.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.kafka.set(key, value);
        self
    }

    /// The topics to read; one that begins with `^` is a pattern.
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.settings.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// The consumer group; the consumer's name if it is not said.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Connections to the database of the handlers, with the table `inbox`. There should be one more
    /// than [`concurrency`](Self::concurrency).
    pub fn database(mut self, pool: Pool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// What handles the events.
    pub fn handlers(mut self, handlers: Handlers) -> Self {
        self.handlers = handlers;
        self
    }

    /// What the values of records are. Envelopes if it is not said.
    pub fn format(mut self, format: Format) -> Self {
        self.settings.format = format;
        self
    }

    /// How events are recognised that come again. By their ids if it is not said.
    pub fn once(mut self, once: Once) -> Self {
        self.settings.once = once;
        self
    }

    /// How failing events are tried again.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// The topic for events that can't be handled; `NAME.dead-letter` if it is not said.
    pub fn dead_letters(mut self, topic: impl Into<String>) -> Self {
        self.dead_letters = Some(topic.into());
        self
    }

    /// At most so many events in one transaction, at least 1. With 1, the default, each has its own. More are
    /// handled together if more are at hand; nothing waits for a batch to fill.
    pub fn batch(mut self, events: usize) -> Self {
        self.settings.batch = events;
        self
    }

    /// At most so many transactions at the same time, of different keys, at least 1. 4 if it is not said.
    pub fn concurrency(mut self, transactions: usize) -> Self {
        self.settings.concurrency = transactions;
        self
    }

    /// How long running handlers may take to end when the consumer stops, or when their partition goes to
    /// another one. Then they are rolled back. 20 s if it is not said.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }

    /// Removes old rows of the inbox. Nothing is removed if it is not said.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Adds the consumer's metrics to a registry.
    pub fn metrics(self, registry: &mut Registry) -> Self {
        self.metrics.register(registry);
        self
    }

    /// Makes the consumer. It connects when it runs.
    ///
    /// # Errors
    /// Something is missing, or Kafka's client refuses a property.
    pub fn build(mut self) -> Result<Consumer, Error> {
        let refused = |reason: &str| Error::Settings {
            consumer: self.name.clone(),
            reason: reason.to_owned(),
        };
        let pool = self
            .pool
            .clone()
            .ok_or_else(|| refused("it has no database()"))?;
        if self.settings.topics.is_empty() {
            return Err(refused("it has no topics()"));
        }
        if self.kafka.get("bootstrap.servers").is_none() {
            return Err(refused("it has no brokers()"));
        }
        if self.settings.batch == 0 || self.settings.concurrency == 0 {
            return Err(refused("batch() and concurrency() must be at least 1"));
        }
        let Retry {
            max_attempts,
            multiplier,
            ..
        } = self.settings.retry;
        if max_attempts == 0 || !(1.0..1_000.0).contains(&multiplier) {
            return Err(refused(
                "retry() needs at least 1 attempt, and a multiplier from 1 to 1000",
            ));
        }
        if self.retention.is_some() && self.settings.once == Once::Offsets {
            return Err(refused(
                "Once::Offsets keeps no inbox, so there is no retention()",
            ));
        }
        // So that the next batches are at hand.
        let in_hand = self.settings.batch * self.settings.concurrency * 2;
        self.settings.buffer = self.settings.buffer.max(in_hand);
        let topic = self.dead_letters.take();
        let topic = topic.unwrap_or_else(|| format!("{}.dead-letter", self.name));
        let group = self.group.as_deref().unwrap_or(&self.name);
        let worker = Worker {
            consumer: self.name.clone(),
            pool,
            handlers: self.handlers,
            retry: self.settings.retry,
            once: self.settings.once,
            letters: Letters::Topic(DeadLetters {
                producer: kafka::producer(&self.kafka)?,
                topic,
                consumer: self.name.clone(),
            }),
            metrics: self.metrics.clone(),
        };
        Ok(Consumer {
            kafka: kafka::consumer(&self.kafka, group, self.metrics.lag)?,
            config: self.kafka,
            settings: self.settings,
            retention: self.retention,
            worker,
        })
    }
}
