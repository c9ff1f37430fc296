//! Services that write events, in every way that a service could.
//!
//! Each writer owns its keys and numbers the events of a key, so that order can be judged: a
//! payload is `{"key": …, "n": …, "doomed": …}`. Doomed ones belong to a transaction, or to a part
//! of one, that is rolled back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures_util::SinkExt;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use crate::stage::{TOPICS, UNROUTABLE};

const KEYS_PER_WRITER: u64 = 20;
const LARGE_ROWS: u64 = 500;
const LARGE_STATEMENT_ROWS: usize = 50;
const RETRY: Duration = Duration::from_millis(100);

/// How a transaction is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Single,
    MultiRow,
    Copy,
    /// Many rows in several statements.
    Large,
    RolledBack,
    /// Rows, a savepoint, rows that are rolled back to it, and rows again.
    PartlyRolledBack,
}

/// Writers that run until they are stopped.
pub struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts `count` writers that pause `pause` after every transaction. They outlive restarts
    /// of the server: an interrupted transaction is tried anew with new numbers.
    pub fn start(url: &str, count: u64, pause: Duration) -> Self {
        Self::seeded(url, count, pause, 0)
    }

    /// As `start`; `seed` decides what they write.
    pub fn seeded(url: &str, count: u64, pause: Duration, seed: u64) -> Self {
        Self::with_bad_rows(url, count, pause, seed, 0)
    }

    /// As `seeded`; of 10,000 rows about so many can't be published.
    pub fn with_bad_rows(
        url: &str,
        count: u64,
        pause: Duration,
        seed: u64,
        bad_in_10k: u32,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let spawn = |id| {
            let mut writer = Writer {
                id,
                url: url.to_owned(),
                next: vec![0; KEYS_PER_WRITER as usize],
                bad_in_10k,
                random: fastrand::Rng::with_seed(seed.wrapping_add(id)),
                pause,
            };
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            tokio::spawn(async move { writer.run(&stop, &written).await })
        };
        let tasks = (0..count).map(spawn).collect();
        Self {
            stop,
            written,
            tasks,
        }
    }

    /// Rows known to be committed so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Stops them, each after its current transaction.
    pub async fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await?;
        }
        Ok(())
    }
}

struct Writer {
    id: u64,
    url: String,
    /// The next number of each key. Numbers of failed transactions are not used again.
    next: Vec<u64>,
    random: fastrand::Rng,
    pause: Duration,
    bad_in_10k: u32,
}

impl Writer {
    async fn run(&mut self, stop: &AtomicBool, written: &AtomicU64) {
        while !stop.load(Ordering::Relaxed) {
            if let Err(_interrupted) = self.connected(stop, written).await {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn connected(&mut self, stop: &AtomicBool, written: &AtomicU64) -> Result<()> {
        let (mut client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
        tokio::spawn(connection);
        while !stop.load(Ordering::Relaxed) {
            let rows = self.transaction(&mut client).await?;
            written.fetch_add(rows, Ordering::Relaxed);
            tokio::time::sleep(self.pause).await;
        }
        Ok(())
    }

    async fn transaction(&mut self, client: &mut Client) -> Result<u64> {
        let (shape, rows) = match self.random.u32(0..100) {
            0..60 => (Shape::Single, 1),
            60..78 => (Shape::MultiRow, self.random.u64(2..20)),
            78..86 => (Shape::Copy, self.random.u64(2..50)),
            86..88 => (Shape::Large, LARGE_ROWS),
            88..96 => (Shape::RolledBack, self.random.u64(1..20)),
            _ => (Shape::PartlyRolledBack, self.random.u64(1..10)),
        };
        let events = self.events(rows, shape == Shape::RolledBack);
        let transaction = client.transaction().await?;
        match shape {
            Shape::Single | Shape::MultiRow => insert(&transaction, &events).await?,
            Shape::Copy => copy(&transaction, &events).await?,
            Shape::Large => {
                for statement in events.chunks(LARGE_STATEMENT_ROWS) {
                    insert(&transaction, statement).await?;
                }
            }
            Shape::RolledBack => {
                insert(&transaction, &events).await?;
                transaction.rollback().await?;
                return Ok(0);
            }
            Shape::PartlyRolledBack => {
                insert(&transaction, &events).await?;
                transaction.batch_execute("SAVEPOINT part").await?;
                insert(&transaction, &self.events(rows, true)).await?;
                transaction.batch_execute("ROLLBACK TO part").await?;
                insert(&transaction, &self.events(rows, false)).await?;
                transaction.commit().await?;
                return Ok(rows * 2);
            }
        }
        transaction.commit().await?;
        Ok(rows)
    }

    fn events(&mut self, rows: u64, doomed: bool) -> Vec<Event> {
        (0..rows).map(|_| self.event(doomed)).collect()
    }

    fn event(&mut self, doomed: bool) -> Event {
        let slot = self.random.usize(..self.next.len());
        let n = self.next[slot];
        self.next[slot] += 1;
        let key = format!("w{}-k{slot}", self.id);
        let mut topic = TOPICS[self.random.usize(..TOPICS.len())];
        if self.bad_in_10k > 0 && self.random.u32(..10_000) < self.bad_in_10k {
            topic = UNROUTABLE;
        }
        let payload = format!(r#"{{"n": {n}, "key": "{key}", "doomed": {doomed}}}"#);
        Event {
            topic,
            key,
            payload,
        }
    }
}

struct Event {
    topic: &'static str,
    key: String,
    payload: String,
}

async fn insert(transaction: &tokio_postgres::Transaction<'_>, events: &[Event]) -> Result<()> {
    let topics: Vec<_> = events.iter().map(|e| e.topic).collect();
    let keys: Vec<_> = events.iter().map(|e| e.key.as_str()).collect();
    let payloads: Vec<_> = events.iter().map(|e| e.payload.as_str()).collect();
    let sql = "INSERT INTO outbox (event_type, transfer_id, payload) \
               SELECT t, k, p::jsonb FROM unnest($1::text[], $2::text[], $3::text[]) AS e(t, k, p)";
    transaction
        .execute(sql, &[&topics, &keys, &payloads])
        .await?;
    Ok(())
}

async fn copy(transaction: &tokio_postgres::Transaction<'_>, events: &[Event]) -> Result<()> {
    let sql = "COPY outbox (event_type, transfer_id, payload) FROM STDIN";
    let mut sink = std::pin::pin!(transaction.copy_in::<_, Bytes>(sql).await?);
    for Event {
        topic,
        key,
        payload,
    } in events
    {
        sink.send(Bytes::from(format!("{topic}\t{key}\t{payload}\n")))
            .await?;
    }
    sink.finish().await?;
    Ok(())
}
