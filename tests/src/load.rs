//! Events at a fixed rate, and how long each of them takes to a `read_committed` consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use producer::{Producer, Record};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::reader::{Reader, Seen};
use crate::stage::{Stage, TOPICS};

const KAFKA_WITHIN: Duration = Duration::from_secs(30);

/// Writers that insert at a fixed rate until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Each of `writers` inserts `rows` in one statement, every `period`.
    pub async fn start(stage: &Stage, writers: u32, rows: u32, period: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for _ in 0..writers {
            let client = stage.client().await?;
            let stop = Arc::clone(&stop);
            let writing = async move { write(&client, rows, period, &stop).await };
            tasks.push(tokio::spawn(writing));
        }
        Ok(Self {
            stop,
            writers: tasks,
        })
    }

    /// Stops them, each after its statement.
    pub async fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await??;
        }
        Ok(())
    }
}

/// The same load without a database: what is written goes into transactions of a bare producer, one after the
/// other, each as soon as the one before is committed. Nothing that publishes exactly once could be faster.
pub struct Bare {
    writing: Load,
    publisher: JoinHandle<Result<()>>,
}

impl Bare {
    /// Each of `writers` hands over an event every `period`.
    pub fn start(stage: &Stage, writers: u32, period: Duration) -> Result<Self> {
        let bootstrap = stage.bootstrap();
        let producer = Producer::new([
            ("bootstrap.servers", &*bootstrap),
            ("transactional.id", "bare"),
            ("linger.ms", "0"),
        ])?;
        let (written, to_publish) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let publisher = tokio::task::spawn_blocking(move || publish(producer, &to_publish));
        let writers = (0..writers).map(|_| {
            let (stop, written) = (Arc::clone(&stop), written.clone());
            tokio::spawn(async move { hand_over(&written, period, &stop).await })
        });
        let writing = Load {
            writers: writers.collect(),
            stop,
        };
        Ok(Self { writing, publisher })
    }

    /// Stops them; everything is committed then.
    pub async fn stop(self) -> Result<()> {
        self.writing.stop().await?;
        self.publisher.await?
    }
}

struct Written {
    topic: &'static str,
    key: String,
    value: String,
}

async fn hand_over(written: &Sender<Written>, period: Duration, stop: &AtomicBool) -> Result<()> {
    let mut ticks = tokio::time::interval(period);
    let mut number = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let began = now_us()?;
        written.send(Written {
            topic: TOPICS[number % TOPICS.len()],
            key: format!("t-{}", number % 1000),
            value: format!("{{\"payload\": {{\"began_us\": {began}}}}}"),
        })?;
        number += 1;
    }
    Ok(())
}

fn publish(mut producer: Producer, written: &Receiver<Written>) -> Result<()> {
    producer.init_transactions(KAFKA_WITHIN)?;
    while let Ok(first) = written.recv() {
        producer.begin_transaction()?;
        for event in std::iter::once(first).chain(written.try_iter()) {
            let key = Some(event.key.as_bytes());
            let record = Record {
                topic: event.topic,
                partition: None,
                key,
                value: Some(event.value.as_bytes()),
                timestamp_ms: i64::try_from(now_us()? / 1000)?,
                tag: 0,
            };
            // The reader knows events by them.
            producer.produce(&record, [("eventId", key), ("position", key)])?;
        }
        while producer.poll(KAFKA_WITHIN) > 0 {}
        if let Some(failure) = producer.take_failure() {
            bail!("{failure:?}");
        }
        producer.commit_transaction(KAFKA_WITHIN)?;
    }
    Ok(())
}

/// Microseconds, none yet.
pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

/// Microseconds from insert to reading, in the time from `warm_up` on.
pub async fn latencies(
    stage: &Stage,
    warm_up: Duration,
    measured: Duration,
) -> Result<Histogram<u64>> {
    let bootstrap = stage.bootstrap();
    tokio::task::spawn_blocking(move || read(&bootstrap, warm_up, measured)).await?
}

fn now_us() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(now.as_micros())?)
}

/// The payload says when the insert began.
async fn write(client: &Client, rows: u32, period: Duration, stop: &AtomicBool) -> Result<()> {
    let sql = "INSERT INTO outbox (event_type, transfer_id, payload) \
               SELECT $1, 't-' || ($2::int8 + i) % 1000, \
                 jsonb_build_object('began_us', $3::int8) FROM generate_series(1, $4::int4) i";
    let insert = client.prepare(sql).await?;
    let mut ticks = tokio::time::interval(period);
    let mut number = 0_usize;
    let count = i32::try_from(rows)?;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let began = i64::try_from(now_us()?)?;
        let first = i64::try_from(number)?;
        let topic = TOPICS[number % TOPICS.len()];
        client
            .execute(&insert, &[&topic, &first, &began, &count])
            .await?;
        number += 1;
    }
    Ok(())
}

fn read(bootstrap: &str, warm_up: Duration, measured: Duration) -> Result<Histogram<u64>> {
    // What earlier loads have left would look late.
    let reader = Reader::open_at_end(bootstrap, &TOPICS)?;
    let mut latencies = histogram()?;
    let from = SystemTime::now() + warm_up;
    let until = from + measured;
    while SystemTime::now() < until {
        let seen = reader.next(Duration::from_secs(10))?.context("no events")?;
        if seen.read_at >= from {
            latencies.record(latency_us(&seen)?)?;
        }
    }
    Ok(latencies)
}

fn latency_us(seen: &Seen) -> Result<u64> {
    let envelope: Value = serde_json::from_str(&seen.value)?;
    let began = envelope["payload"]["began_us"]
        .as_u64()
        .context("began_us")?;
    let read = u64::try_from(seen.read_at.duration_since(UNIX_EPOCH)?.as_micros())?;
    Ok(read.saturating_sub(began).max(1))
}
