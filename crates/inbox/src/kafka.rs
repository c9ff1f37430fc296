//! The Kafka clients of a consumer.
//!
//! Rebalances are noted and answered later, by the engine: partitions are given up only when what runs
//! of them has ended. librdkafka waits for the answer, and keeps the heartbeat meanwhile.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::FutureProducer;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, TopicPartitionList};
use tokio::sync::{Notify, oneshot};

use crate::error::Error;
use crate::metrics::{Lag, now_ms};

/// A broker answers a fetch within `fetch.wait.max.ms`, half a second. Silence for longer is no proof.
const SILENCE_MAX_US: i64 = 2_000_000;

pub(crate) type KafkaConsumer = BaseConsumer<Context>;

/// What a thread answers; nothing if it could not be started.
pub(crate) type Answer<T> = oneshot::Receiver<T>;

/// Does what may block for as long as Kafka is away, in a thread that the end of the runtime does not wait for.
pub(crate) fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    let (answer, answered) = oneshot::channel();
    let thread = std::thread::Builder::new().name("inbox-kafka".to_owned());
    // Whoever asked may be gone.
    let started = thread.spawn(move || drop(answer.send(work())));
    if let Err(error) = started {
        tracing::warn!(%error, "a thread for Kafka could not be started");
    }
    answered
}

/// The consumer's membership in its group. Whenever it is dropped, also by a future that is dropped
/// midway, rebalances are answered at once from then on: leaving the group waits for the answers.
pub(crate) struct Member(pub Arc<KafkaConsumer>);

impl Deref for Member {
    type Target = Arc<KafkaConsumer>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let context = self.context();
        context.is_closing.store(true, Ordering::SeqCst);
        for rebalance in context.rebalances() {
            decline(self, &rebalance);
        }
    }
}

/// Partitions come or go.
#[derive(Debug)]
pub(crate) enum Rebalance {
    Assigned(TopicPartitionList),
    Revoked(TopicPartitionList),
}

/// What librdkafka calls back.
pub(crate) struct Context {
    pub wake: Arc<Notify>,
    pub lag: Lag,
    rebalances: Mutex<Vec<Rebalance>>,
    /// Callbacks so far: a poll that only served one looks like a poll that found nothing.
    served: AtomicU64,
    is_closing: AtomicBool,
}

impl Context {
    pub fn new(lag: Lag) -> Self {
        Self {
            wake: Arc::new(Notify::new()),
            lag,
            rebalances: Mutex::default(),
            served: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
        }
    }

    /// Rebalances since the last call, in order.
    pub fn rebalances(&self) -> Vec<Rebalance> {
        std::mem::take(
            &mut self
                .rebalances
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let now_ms = now_ms();
        let brokers = statistics.brokers.values();
        let heard: Vec<i32> = brokers
            .filter(|broker| (0..SILENCE_MAX_US).contains(&broker.rxidle))
            .map(|broker| broker.nodeid)
            .collect();
        for (topic, of_topic) in &statistics.topics {
            let topic: Arc<str> = topic.as_str().into();
            for partition in of_topic.partitions.values() {
                if heard.contains(&partition.broker) && partition.fetch_state == "active" {
                    let place = (Arc::clone(&topic), partition.partition);
                    self.lag
                        .progress(&place, |progress| progress.proven(now_ms));
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "Kafka client is in trouble; it tries again");
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let rebalance = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                Rebalance::Assigned(partitions.clone())
            }
            _ => Rebalance::Revoked(partitions.clone()),
        };
        self.served.fetch_add(1, Ordering::Relaxed);
        if self.is_closing.load(Ordering::SeqCst) {
            decline(consumer, &rebalance);
            return;
        }
        self.rebalances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(rebalance);
        self.wake.notify_one();
    }
}

/// Answers an assignment.
pub(crate) fn take_over(consumer: &KafkaConsumer, partitions: &TopicPartitionList) {
    let answered = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(partitions),
    };
    log(answered);
}

/// Answers a revocation.
pub(crate) fn give_up(consumer: &KafkaConsumer, partitions: &TopicPartitionList) {
    let answered = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    };
    log(answered);
}

/// Answers a rebalance of a consumer that ends.
pub(crate) fn decline(consumer: &KafkaConsumer, rebalance: &Rebalance) {
    match rebalance {
        Rebalance::Assigned(_) => take_over(consumer, &TopicPartitionList::new()),
        Rebalance::Revoked(partitions) => give_up(consumer, partitions),
    }
}

fn log(answered: KafkaResult<()>) {
    if let Err(error) = answered {
        tracing::warn!(%error, "a rebalance was not answered; the group starts another one");
    }
}

/// What the library relies on comes last, so that nothing overrides it.
pub(crate) fn consumer(given: &ClientConfig, group: &str, lag: Lag) -> Result<Member, Error> {
    let mut config = given.clone();
    let mut defaults = vec![
        ("auto.offset.reset", "earliest"),
        // For each partition, as each has its own queue.
        ("queued.max.messages.kbytes", "8192"),
    ];
    // With the newer protocol the broker assigns, always cooperatively, and this would be refused.
    if given.get("group.protocol") != Some("consumer") {
        defaults.push(("partition.assignment.strategy", "cooperative-sticky"));
    }
    for (key, value) in defaults {
        if given.get(key).is_none() {
            config.set(key, value);
        }
    }
    config
        .set("group.id", group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("statistics.interval.ms", "1000");
    let context = Context::new(lag);
    let wake = Arc::clone(&context.wake);
    let consumer = config.create_with_context(context);
    let mut consumer: KafkaConsumer = consumer.map_err(Error::kafka("making a Kafka consumer"))?;
    consumer.set_nonempty_callback(move || wake.notify_one());
    Ok(Member(Arc::new(consumer)))
}

/// The producer of dead letters.
pub(crate) fn producer(given: &ClientConfig) -> Result<FutureProducer, Error> {
    let mut config = ClientConfig::new();
    // Only what both kinds of clients know: how to reach the brokers.
    let shared = [
        "bootstrap",
        "security",
        "sasl",
        "ssl",
        "client",
        "broker",
        "socket",
    ];
    for (key, value) in given.config_map() {
        if shared
            .iter()
            .any(|prefix| key.starts_with(&format!("{prefix}.")))
        {
            config.set(key, value);
        }
    }
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "0")
        // Whether a record is too large is the topic's to say, and of each one alone: with neighbours
        // in a batch, all would be refused.
        .set("message.max.bytes", "1000000000")
        .set("batch.num.messages", "1")
        // Longer is not in vain: the event is tried again.
        .set("message.timeout.ms", "30000");
    config
        .create()
        .map_err(Error::kafka("making a Kafka producer"))
}
