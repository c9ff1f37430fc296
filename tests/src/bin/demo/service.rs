//! A small service: in each transaction it changes a transfer and says so in the outbox, or
//! changes its mind and rolls back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_postgres::{NoTls, Transaction};

/// The writing task.
pub struct Service {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<Written>>,
}

/// How many transactions ended how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    pub committed: u64,
    pub rolled_back: u64,
}

impl Service {
    /// Begins to write, `rate` transactions a second.
    pub fn start(runtime: &Runtime, url: String, rate: f64) -> Service {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let pause = Duration::from_secs_f64(1.0 / rate);
        let task = runtime.spawn(async move { write(&url, pause, &stopped).await });
        Service { stop, task }
    }

    /// Whether it has ended by itself, which is an error.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Stops it after the transaction at hand.
    pub fn stop(self, runtime: &Runtime) -> Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        runtime
            .block_on(self.task)
            .context("the service panicked")?
    }
}

async fn write(url: &str, pause: Duration, stop: &AtomicBool) -> Result<Written> {
    let (mut client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .context("connecting the service")?;
    tokio::spawn(connection);
    let mut written = Written::default();
    let mut next = Instant::now();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let work = client.transaction().await?;
        work_on(&work, number).await.context("writing events")?;
        if is_doomed(number) {
            work.rollback().await?;
            written.rolled_back += 1;
        } else {
            work.commit().await?;
            written.committed += 1;
        }
        next += pause;
        tokio::time::sleep_until(next.into()).await;
    }
    Ok(written)
}

/// One in eight changes its mind.
fn is_doomed(number: u64) -> bool {
    number % 8 == 7
}

async fn work_on(work: &Transaction<'_>, number: u64) -> Result<()> {
    let amount = format!("{}.{:02}", 10 + number * 37 % 990, number * 7 % 100);
    match number % 8 {
        0 | 2 | 4 | 7 => {
            let transfer = transfer(number);
            let sql = "INSERT INTO transfers VALUES ($1, 'initiated')";
            work.execute(sql, &[&transfer]).await?;
            let payload = json!({ "amount": amount, "currency": "EUR" });
            emit(work, "transfers.initiated", Some(&transfer), payload).await
        }
        1 | 3 => {
            let transfer = transfer(number - 1);
            let sql = "UPDATE transfers SET state = 'settled' WHERE id = $1";
            work.execute(sql, &[&transfer]).await?;
            emit(work, "transfers.settled", Some(&transfer), json!({})).await?;
            let payload = json!({ "debit": "1010", "credit": "2020" });
            emit(work, "ledger.posted", Some(&transfer), payload).await
        }
        5 => {
            let transfer = transfer(number - 1);
            let payload = json!({ "rule": "amount-limit", "score": 0.71 });
            emit(work, "compliance.flagged", Some(&transfer), payload).await
        }
        _ => {
            let payload = json!({ "statement": number / 8, "lines": 12 });
            emit(work, "recon.matched", None, payload).await
        }
    }
}

fn transfer(number: u64) -> String {
    format!("transfer-{number}")
}

async fn emit(
    work: &Transaction<'_>,
    event_type: &str,
    transfer: Option<&str>,
    payload: Value,
) -> Result<()> {
    let sql = "INSERT INTO outbox (event_type, transfer_id, payload) VALUES ($1, $2, $3)";
    work.execute(sql, &[&event_type, &transfer, &payload])
        .await?;
    Ok(())
}
