//! From insert to a `read_committed` consumer, at 1,000 events a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde_json::Value;
use tokio_postgres::Client;

use crate::reader::{Reader, Seen};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{Stage, TOPICS};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "latency",
    about: "insert to consumer at 1,000 events/s, exactly once: p50 < 15 ms, p99 < 50 ms",
    group: Group::Alone,
    within: Duration::from_secs(120),
    run: |figures| Box::pin(run(figures)),
};

const WRITERS: u32 = 4;
const PERIOD: Duration = Duration::from_millis(4);
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(30);
const P50_MAX_MS: f64 = 15.0;
const P99_MAX_MS: f64 = 50.0;

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let relay = stage.relay(&[]).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let client = stage.client().await?;
        let stop = Arc::clone(&stop);
        writers.push(tokio::spawn(async move { write(&client, &stop).await }));
    }
    let bootstrap = stage.bootstrap();
    let latencies = tokio::task::spawn_blocking(move || read(&bootstrap)).await??;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await??;
    }
    relay.stop().await?;
    let ms = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    let rate = latencies.len() as f64 / MEASURED.as_secs_f64();
    figures.add("events_per_s", format!("{rate:.0}"));
    for (name, quantile) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)] {
        figures.add(name, format!("{:.1}", ms(quantile)));
    }
    ensure!(rate > 900.0, "the writers only managed {rate:.0} events/s");
    ensure!(ms(0.5) < P50_MAX_MS, "p50 is {:.1} ms", ms(0.5));
    ensure!(ms(0.99) < P99_MAX_MS, "p99 is {:.1} ms", ms(0.99));
    Ok(())
}

fn now_us() -> Result<u64> {
    Ok(u64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros(),
    )?)
}

/// Inserts at a fixed rate; the payload says when the insert began.
async fn write(client: &Client, stop: &AtomicBool) -> Result<()> {
    let sql = "INSERT INTO outbox (event_type, transfer_id, payload) \
               VALUES ($1, $2, jsonb_build_object('began_us', $3::bigint))";
    let insert = client.prepare(sql).await?;
    let mut ticks = tokio::time::interval(PERIOD);
    let mut number = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let began = i64::try_from(now_us()?)?;
        let key = format!("t-{}", number % 1000);
        client
            .execute(&insert, &[&TOPICS[number % TOPICS.len()], &key, &began])
            .await?;
        number += 1;
    }
    Ok(())
}

/// Microseconds from insert to reading, after the warm-up.
fn read(bootstrap: &str) -> Result<Histogram<u64>> {
    let reader = Reader::open(bootstrap, &TOPICS)?;
    let mut latencies = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let from = SystemTime::now() + WARM_UP;
    let until = from + MEASURED;
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
