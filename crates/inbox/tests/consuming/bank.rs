//! A database, topics, and consumers that run.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, Pool};
use inbox::{
    Consumer, ConsumerBuilder, Error, Event, Failure, Handler, Handlers, Lag, Retry, Transaction,
};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use testbed::{Kafka, Postgres};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

pub const WITHIN: Duration = Duration::from_secs(60);

/// One broker for all tests that run at the same time. It goes with the last of them.
static BROKER: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());

pub fn broker() -> Arc<Kafka> {
    let mut broker = BROKER.lock().unwrap();
    broker.upgrade().unwrap_or_else(|| {
        let started = Arc::new(Kafka::builder().start().unwrap());
        *broker = Arc::downgrade(&started);
        started
    })
}

/// A database, and topics of its own.
pub struct Bank {
    pub kafka: Arc<Kafka>,
    pub postgres: Postgres,
    topic: String,
}

impl Bank {
    pub async fn start(topic: &str) -> Self {
        Self::start_with(topic, 1 << 20, 1 << 20).await
    }

    /// With topics that take records of these sizes.
    pub async fn start_with(topic: &str, max_bytes: usize, dead_max_bytes: usize) -> Self {
        let kafka = broker();
        let postgres = Postgres::builder().start().unwrap();
        for sql in [
            include_str!("../../../../sql/inbox.sql"),
            include_str!("../../../../sql/inbox_offsets.sql"),
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

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        config(&self.kafka).create().unwrap()
    }

    pub async fn make_topic(&self, name: &str, partitions: i32, max_bytes: usize) {
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
    pub async fn make_again(&self) {
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
    pub async fn produce_values(&self, values: &[&str]) {
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

    pub fn pool(&self) -> Pool {
        let config = self.postgres.superuser_url("postgres").parse().unwrap();
        Pool::builder(Manager::new(config, NoTls))
            .max_size(8)
            .build()
            .unwrap()
    }

    pub fn consumer(&self, handlers: Handlers) -> ConsumerBuilder {
        Consumer::builder(&self.topic)
            .brokers(self.kafka.bootstrap())
            .topics([&self.topic])
            .database(self.pool())
            .handlers(handlers)
            .retry(Retry::attempts(3).backoff(Duration::from_millis(1), Duration::from_millis(50)))
            .property("session.timeout.ms", "6000")
    }

    /// Events with numbers from `first` on, of ten keys by turns, committed as one transaction.
    pub async fn produce(&self, first: i64, last: i64) {
        self.produce_to(&self.kafka.bootstrap(), first, last).await;
    }

    pub async fn produce_to(&self, brokers: &str, first: i64, last: i64) {
        let mut config = connecting(brokers);
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

    pub fn value(&self, sql: &str) -> String {
        self.postgres.sql("postgres", sql).unwrap()[0][0]
            .clone()
            .unwrap()
    }

    pub async fn entries(&self, expected: i64) {
        self.until("SELECT count(*) FROM entries", expected).await;
    }

    pub async fn until(&self, sql: &str, expected: i64) {
        let began = Instant::now();
        while self.value(sql) != expected.to_string() {
            assert!(began.elapsed() < WITHIN, "{sql}: {}", self.value(sql));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Each number once, and in the order of its key.
    pub fn is_exact(&self) {
        let twice =
            "SELECT count(*) FROM (SELECT FROM entries GROUP BY number HAVING count(*) > 1) t";
        assert_eq!(self.value(twice), "0");
        let disorder = "SELECT count(*) FROM (SELECT number < lag(number) OVER \
            (PARTITION BY key ORDER BY id) AS wrong FROM entries) t WHERE wrong";
        assert_eq!(self.value(disorder), "0");
    }
}

pub fn config(kafka: &Kafka) -> ClientConfig {
    connecting(&kafka.bootstrap())
}

fn connecting(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

pub async fn post(event: Event<i64>, tx: &Transaction<'_>) -> Result<(), Failure> {
    let sql = "INSERT INTO entries (key, number) VALUES ($1, $2)";
    tx.execute(sql, &[&event.transfer_id(), &event.payload])
        .await?;
    match event.payload {
        -1 => Err(Failure::transient("never")),
        _ => Ok(()),
    }
}

pub fn posting() -> Handlers {
    Handlers::new().on("settled", post)
}

/// A consumer that runs.
pub struct Running {
    stop: Arc<Notify>,
    lag: Lag,
    pub task: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub fn start(builder: ConsumerBuilder) -> Self {
        let consumer = builder.build().unwrap();
        let stop = Arc::new(Notify::new());
        let (lag, stopped) = (consumer.lag(), Arc::clone(&stop));
        let run = async move { consumer.run_until(stopped.notified()).await };
        let task = tokio::spawn(run);
        Self { stop, lag, task }
    }

    pub async fn stop(self) {
        self.stop.notify_one();
        tokio::time::timeout(WITHIN, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    pub async fn lag(&self, topic: &str, is_as: impl Fn(Duration) -> bool) {
        let began = Instant::now();
        while !self.lag.of(topic).is_some_and(&is_as) {
            assert!(began.elapsed() < WITHIN, "{:?}", self.lag.all());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What the group has committed, summed over the partitions.
pub fn committed(topic: &str) -> i64 {
    committed_in(&broker().bootstrap(), topic)
}

pub fn committed_in(brokers: &str, topic: &str) -> i64 {
    let mut config = connecting(brokers);
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

/// Event -1 is older than what topics keep.
pub const OLD_MS: i64 = 1_000_000_000_000;

pub fn first_of(topic: &str) -> OwnedMessage {
    records_of(topic, 1).remove(0)
}

pub fn records_of(topic: &str, count: usize) -> Vec<OwnedMessage> {
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

pub fn headers(message: &OwnedMessage) -> HashMap<String, String> {
    let headers = message.headers().unwrap();
    let text =
        |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    headers
        .iter()
        .map(|header| (header.key.to_owned(), text(header.value)))
        .collect()
}

/// Holds every event up until it is told to go on, and counts them.
pub struct Gate(pub Arc<tokio::sync::Semaphore>, pub Arc<AtomicUsize>);

impl Handler<i64> for Gate {
    async fn handle(&self, event: Event<i64>, tx: &Transaction<'_>) -> Result<(), Failure> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.acquire().await?.forget();
        post(event, tx).await
    }
}
