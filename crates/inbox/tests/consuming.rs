//! Consumers of real topics.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, Pool};
use inbox::{
    Consumer, ConsumerBuilder, Error, Event, Failure, Handler, Handlers, Lag, Once, Retry,
    Transaction,
};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use testbed::{Kafka, Postgres, StopMode};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

const WITHIN: Duration = Duration::from_secs(60);

/// One broker for all tests that run at the same time. It goes with the last of them.
static BROKER: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());

fn broker() -> Arc<Kafka> {
    let mut broker = BROKER.lock().unwrap();
    broker.upgrade().unwrap_or_else(|| {
        let started = Arc::new(Kafka::builder().start().unwrap());
        *broker = Arc::downgrade(&started);
        started
    })
}

/// A database, and topics of its own.
struct Bank {
    kafka: Arc<Kafka>,
    postgres: Postgres,
    topic: String,
}

impl Bank {
    async fn start(topic: &str) -> Self {
        Self::start_with(topic, 1 << 20, 1 << 20).await
    }

    /// With topics that take records of these sizes.
    async fn start_with(topic: &str, max_bytes: usize, dead_max_bytes: usize) -> Self {
        let kafka = broker();
        let postgres = Postgres::builder().start().unwrap();
        for sql in [
            include_str!("../../../sql/inbox.sql"),
            include_str!("../../../sql/inbox_offsets.sql"),
            "CREATE TABLE entries (id bigint GENERATED ALWAYS AS IDENTITY, key text, number bigint)",
        ] {
            postgres.sql("postgres", sql).unwrap();
        }
        let bank = Self {
            kafka,
            postgres,
            topic: topic.to_owned(),
        };
        bank.make_topic(topic, 4, max_bytes).await;
        bank.make_topic(&format!("{topic}.dead-letter"), 1, dead_max_bytes)
            .await;
        bank
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        config(&self.kafka).create().unwrap()
    }

    async fn make_topic(&self, name: &str, partitions: i32, max_bytes: usize) {
        let max_bytes = max_bytes.to_string();
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1))
            .set("max.message.bytes", &max_bytes);
        let made = self
            .admin()
            .create_topics([&topic], &AdminOptions::new())
            .await;
        made.unwrap().remove(0).unwrap();
    }

    /// The same name, other records.
    async fn make_again(&self) {
        let admin = self.admin();
        let removed = admin
            .delete_topics(&[&self.topic], &AdminOptions::new())
            .await;
        removed.unwrap().remove(0).unwrap();
        let began = Instant::now();
        let known = || admin.inner().fetch_metadata(None, WITHIN).unwrap();
        while known()
            .topics()
            .iter()
            .any(|topic| topic.name() == self.topic)
        {
            assert!(began.elapsed() < WITHIN, "the topic does not go");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.make_topic(&self.topic, 4, 1 << 20).await;
    }

    /// Records of one partition, with these values.
    async fn produce_values(&self, values: &[&str]) {
        let mut config = config(&self.kafka);
        config.set("message.max.bytes", "10000000");
        let producer: FutureProducer = config.create().unwrap();
        for value in values {
            let record = FutureRecord::<str, str>::to(&self.topic)
                .payload(value)
                .partition(0);
            producer.send(record, WITHIN).await.unwrap();
        }
    }

    fn pool(&self) -> Pool {
        let config = self.postgres.superuser_url("postgres").parse().unwrap();
        Pool::builder(Manager::new(config, NoTls))
            .max_size(8)
            .build()
            .unwrap()
    }

    fn consumer(&self, handlers: Handlers) -> ConsumerBuilder {
        Consumer::builder(&self.topic)
            .brokers(self.kafka.bootstrap())
            .topics([&self.topic])
            .database(self.pool())
            .handlers(handlers)
            .retry(Retry::attempts(3).backoff(Duration::from_millis(1), Duration::from_millis(50)))
            .property("session.timeout.ms", "6000")
    }

    /// Events with numbers from `first` on, of ten keys by turns, committed as one transaction.
    async fn produce(&self, first: i64, last: i64) {
        let mut config = config(&self.kafka);
        config.set("transactional.id", &self.topic);
        let producer: FutureProducer = config.create().unwrap();
        producer.init_transactions(WITHIN).unwrap();
        producer.begin_transaction().unwrap();
        let mut sent = Vec::new();
        for number in first..=last {
            let key = format!("k{}", number % 10);
            let value = format!(
                r#"{{"eventId":"{}-{number}","type":"settled","occurredAt":"2026-11-23T10:51:19Z","transferId":"{key}","payload":{number}}}"#,
                self.topic
            );
            let record = FutureRecord::to(&self.topic).key(&key).payload(&value);
            let record = match number {
                -1 => record.timestamp(OLD_MS),
                _ => record,
            };
            sent.push(
                producer
                    .send_result(record)
                    .map_err(|(error, _)| error)
                    .unwrap(),
            );
        }
        for record in sent {
            record.await.unwrap().map_err(|(error, _)| error).unwrap();
        }
        producer.commit_transaction(WITHIN).unwrap();
    }

    fn value(&self, sql: &str) -> String {
        self.postgres.sql("postgres", sql).unwrap()[0][0]
            .clone()
            .unwrap()
    }

    async fn entries(&self, expected: i64) {
        self.until("SELECT count(*) FROM entries", expected).await;
    }

    async fn until(&self, sql: &str, expected: i64) {
        let began = Instant::now();
        while self.value(sql) != expected.to_string() {
            assert!(began.elapsed() < WITHIN, "{sql}: {}", self.value(sql));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Each number once, and in the order of its key.
    fn is_exact(&self) {
        let twice =
            "SELECT count(*) FROM (SELECT FROM entries GROUP BY number HAVING count(*) > 1) t";
        assert_eq!(self.value(twice), "0");
        let disorder = "SELECT count(*) FROM (SELECT number < lag(number) OVER \
            (PARTITION BY key ORDER BY id) AS wrong FROM entries) t WHERE wrong";
        assert_eq!(self.value(disorder), "0");
    }
}

fn config(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.bootstrap());
    config
}

async fn post(event: Event<i64>, tx: &Transaction<'_>) -> Result<(), Failure> {
    let sql = "INSERT INTO entries (key, number) VALUES ($1, $2)";
    tx.execute(sql, &[&event.transfer_id(), &event.payload])
        .await?;
    match event.payload {
        -1 => Err(Failure::transient("never")),
        _ => Ok(()),
    }
}

fn posting() -> Handlers {
    Handlers::new().on("settled", post)
}

/// A consumer that runs.
struct Running {
    stop: Arc<Notify>,
    lag: Lag,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    fn start(builder: ConsumerBuilder) -> Self {
        let consumer = builder.build().unwrap();
        let stop = Arc::new(Notify::new());
        let (lag, stopped) = (consumer.lag(), Arc::clone(&stop));
        let run = async move { consumer.run_until(stopped.notified()).await };
        let task = tokio::spawn(run);
        Self { stop, lag, task }
    }

    async fn stop(self) {
        self.stop.notify_one();
        tokio::time::timeout(WITHIN, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    async fn lag(&self, topic: &str, is_as: impl Fn(Duration) -> bool) {
        let began = Instant::now();
        while !self.lag.of(topic).is_some_and(&is_as) {
            assert!(began.elapsed() < WITHIN, "{:?}", self.lag.all());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What the group has committed, summed over the partitions.
fn committed(topic: &str) -> i64 {
    let mut config = config(&broker());
    let consumer: BaseConsumer = config.set("group.id", topic).create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_range(topic, 0, 3);
    let found = consumer.committed_offsets(list, WITHIN).unwrap();
    found
        .elements()
        .iter()
        .filter_map(|element| element.offset().to_raw())
        .filter(|o| *o > 0)
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_handled_in_order_over_restarts_and_rebalances() {
    tokio::join!(
        over_restarts("single", Once::Inbox, 1),
        over_restarts("batched", Once::Inbox, 50),
        over_restarts("offsets", Once::Offsets, 50),
    );
}

async fn over_restarts(topic: &str, once: Once, batch: usize) {
    let bank = Bank::start(topic).await;
    bank.produce(1, 1000).await;
    let start = || Running::start(bank.consumer(posting()).once(once).batch(batch));
    let first = start();
    bank.until("SELECT (count(*) > 100)::int FROM entries", 1)
        .await;
    let second = start();
    bank.produce(1001, 3000).await;
    bank.entries(3000).await;
    first.stop().await;
    bank.produce(3001, 3500).await;
    bank.entries(3500).await;
    second.lag(topic, |lag| lag.is_zero()).await;
    second.stop().await;
    bank.is_exact();
    assert!(committed(topic) >= 3500, "{}", committed(topic));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_for_good_is_durable_in_the_dead_letter_topic() {
    for (topic, once) in [("dead", Once::Inbox), ("dead-offsets", Once::Offsets)] {
        let bank = Bank::start(topic).await;
        bank.produce(-1, 20).await;
        let running = Running::start(bank.consumer(posting()).once(once).batch(10));
        bank.entries(21).await;
        running.lag(topic, |lag| lag.is_zero()).await;
        running.stop().await;
        bank.is_exact();
        let letter = first_of(&format!("{topic}.dead-letter"));
        let headers = headers(&letter);
        let says = |name: &str| headers[&format!("dead-letter.{name}")].clone();
        assert_eq!(says("class"), "attempts-exhausted");
        assert_eq!(
            (says("attempts"), says("topic")),
            ("3".to_owned(), topic.to_owned())
        );
        let (own, event) = (
            letter.timestamp().to_millis(),
            says("timestamp").parse::<i64>(),
        );
        assert!(
            own > Some(OLD_MS) && event == Ok(OLD_MS),
            "kept by its own age"
        );
        assert_eq!(
            (says("reason"), says("headers")),
            ("never".to_owned(), "0".to_owned())
        );
        let value = String::from_utf8_lossy(letter.payload().unwrap()).into_owned();
        assert!(value.contains(&format!("{topic}--1")), "{value}");
    }
}

/// Event -1 is older than what topics keep.
const OLD_MS: i64 = 1_000_000_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_whole_where_its_topic_takes_it_and_else_says_where_it_is() {
    for (topic, dead_max, is_whole) in [("large", 4 << 20, true), ("larger", 1 << 20, false)] {
        let bank = Bank::start_with(topic, 4 << 20, dead_max).await;
        // Poison, around one that the dead-letter topic can't take.
        let large = "x".repeat(3 << 20);
        bank.produce_values(&["small", &large, "small"]).await;
        let running = Running::start(bank.consumer(posting()));
        let letters = format!("{topic}.dead-letter");
        let letters = tokio::task::spawn_blocking(move || records_of(&letters, 3))
            .await
            .unwrap();
        running.stop().await;
        let sizes: Vec<_> = letters
            .iter()
            .map(|letter| letter.payload().map(<[u8]>::len))
            .collect();
        let stubs = letters
            .iter()
            .filter(|letter| headers(letter).contains_key("dead-letter.stub"));
        assert_eq!(stubs.count(), usize::from(!is_whole), "{sizes:?}");
        let small = letters
            .iter()
            .filter(|letter| letter.payload() == Some(b"small"));
        assert_eq!(small.count(), 2, "{sizes:?}");
        let whole = letters
            .iter()
            .filter(|letter| letter.payload() == Some(large.as_bytes()));
        assert_eq!(whole.count(), usize::from(is_whole), "{sizes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_of_a_topic_that_was_made_again_stop_the_consumer() {
    let bank = Bank::start("again").await;
    bank.produce(1, 100).await;
    let start = || bank.consumer(posting()).once(Once::Offsets);
    let running = Running::start(start());
    bank.entries(100).await;
    running.stop().await;
    bank.make_again().await;
    bank.produce(201, 220).await;
    let consumer = start().build().unwrap();
    let ended = tokio::time::timeout(WITHIN, consumer.run()).await.unwrap();
    let error = ended.unwrap_err();
    assert!(
        matches!(error, Error::OffsetsOfAnotherTopic { .. }),
        "{error}"
    );
    bank.entries(100).await;
}

fn first_of(topic: &str) -> OwnedMessage {
    records_of(topic, 1).remove(0)
}

fn records_of(topic: &str, count: usize) -> Vec<OwnedMessage> {
    let mut config = config(&broker());
    let reader: BaseConsumer = config.set("group.id", "reader").create().unwrap();
    let mut place = rdkafka::TopicPartitionList::new();
    place
        .add_partition_offset(topic, 0, rdkafka::Offset::Beginning)
        .unwrap();
    reader.assign(&place).unwrap();
    let poll = || reader.poll(WITHIN).unwrap().unwrap().detach();
    (0..count).map(|_| poll()).collect()
}

fn headers(message: &OwnedMessage) -> HashMap<String, String> {
    let headers = message.headers().unwrap();
    let text =
        |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    headers
        .iter()
        .map(|header| (header.key.to_owned(), text(header.value)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_a_dead_letter_because_the_database_is_away() {
    let bank = Bank::start("away").await;
    bank.produce(1, 500).await;
    let running = Running::start(bank.consumer(posting()).batch(20));
    bank.until("SELECT (count(*) > 50)::int FROM entries", 1)
        .await;
    bank.postgres.stop(StopMode::Immediate).unwrap();
    bank.produce(501, 600).await;
    running
        .lag("away", |lag| lag > Duration::from_secs(2))
        .await;
    bank.postgres.start_again().unwrap();
    bank.entries(600).await;
    running.lag("away", |lag| lag.is_zero()).await;
    running.stop().await;
    bank.is_exact();
    let ends = {
        let reader: BaseConsumer = config(&bank.kafka).create().unwrap();
        reader
            .fetch_watermarks("away.dead-letter", 0, WITHIN)
            .unwrap()
    };
    assert_eq!(ends, (0, 0));
}

/// Holds every event up until it is told to go on, and counts them.
struct Gate(Arc<tokio::sync::Semaphore>, Arc<AtomicUsize>);

impl Handler<i64> for Gate {
    async fn handle(&self, event: Event<i64>, tx: &Transaction<'_>) -> Result<(), Failure> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.acquire().await?.forget();
        post(event, tx).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handler_keeps_its_partitions_and_lag_grows_meanwhile() {
    let bank = Bank::start("slow").await;
    bank.produce(1, 1).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let runs = Arc::new(AtomicUsize::new(0));
    let handlers = Handlers::new().on("settled", Gate(Arc::clone(&gate), Arc::clone(&runs)));
    // The heartbeat would be missed within this time if the handler held up the client.
    let builder = bank
        .consumer(handlers)
        .property("max.poll.interval.ms", "6000");
    let running = Running::start(builder);
    running
        .lag("slow", |lag| lag > Duration::from_secs(9))
        .await;
    gate.add_permits(1);
    bank.entries(1).await;
    running.lag("slow", |lag| lag.is_zero()).await;
    running.stop().await;
    bank.is_exact();
    assert_eq!(
        runs.load(Ordering::SeqCst),
        1,
        "the partition was lost meanwhile"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_does_not_end_is_rolled_back_and_runs_elsewhere() {
    let bank = Bank::start("stuck").await;
    bank.produce(1, 40).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let handlers = Handlers::new().on("settled", Gate(Arc::clone(&gate), Arc::default()));
    let builder = bank
        .consumer(handlers)
        .batch(10)
        .drain_timeout(Duration::from_millis(500));
    let stuck = Running::start(builder);
    stuck.lag("stuck", |lag| lag > Duration::ZERO).await;
    let free = Running::start(bank.consumer(posting()).batch(10));
    bank.until("SELECT (count(*) > 0)::int FROM entries", 1)
        .await;
    stuck.stop().await;
    bank.entries(40).await;
    free.stop().await;
    bank.is_exact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_dropped_midway_leaves_its_group() {
    let bank = Bank::start("dropped").await;
    bank.produce(1, 10).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let handlers = Handlers::new().on("settled", Gate(gate, Arc::default()));
    let builder = bank.consumer(handlers);
    let running = Running::start(builder.property("session.timeout.ms", "45000"));
    running.lag("dropped", |lag| lag > Duration::ZERO).await;
    running.task.abort();
    let ended = tokio::time::timeout(WITHIN, running.task).await.unwrap();
    assert!(ended.unwrap_err().is_cancelled());
    // Before its session could have timed out.
    let began = Instant::now();
    let next = Running::start(bank.consumer(posting()));
    bank.entries(10).await;
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    next.stop().await;
    bank.is_exact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_said_at_the_start() {
    let bank = Bank::start("missing").await;
    let builder = bank.consumer(posting()).dead_letters("nowhere");
    let error = builder.build().unwrap().run().await.unwrap_err();
    assert!(matches!(error, Error::NoDeadLetterTopic { .. }), "{error}");
    bank.postgres.sql("postgres", "DROP TABLE inbox").unwrap();
    let error = bank
        .consumer(posting())
        .build()
        .unwrap()
        .run()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("run sql/inbox.sql"), "{error}");
    let error = Consumer::builder("x").build().map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("no database()"), "{error}");
}
