//! A source transaction that takes many Kafka transactions, cut between them again and again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::postgres_restart::caught_up;
use crate::oracle;
use crate::reader::{Isolation, Reader};
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "transaction-cut",
    about: "one transaction of 200,000 rows, with 14 kills and cuts between its Kafka transactions",
    group: Group::Proof,
    within: Duration::from_secs(500),
    run: |figures| Box::pin(run(figures)),
};

const ROWS: u64 = 200_000;
const LIVES: u32 = 14;
/// Inside one source transaction only the bound in bytes closes windows.
const ENV: [(&str, &str); 4] = [
    ("OUTBOXD_BATCH_MAX_BYTES", "64KiB"),
    ("OUTBOXD_EVENT_MAX_BYTES", "64KiB"),
    ("CONCURRENCY", "2"),
    ("OUTBOXD_RETRY_MAX_BACKOFF", "500ms"),
];
const PROGRESS_WITHIN: Duration = Duration::from_secs(180);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().proxied().start().await?;
    stage.relay(&[]).await?.stop().await?;
    insert(&stage).await?;
    let end = stage.value("SELECT pg_current_wal_lsn()")?;
    let whole = format!("SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots");
    let mut random = fastrand::Rng::with_seed(ROWS);
    let mut inside = 0;
    for life in 0..LIVES {
        let relay = stage.relay_with(&ENV).await?;
        progress(&relay, random.u32(1..2500)).await?;
        if life % 2 == 1 {
            let proxy = stage.kafka_proxy()?;
            proxy.cut()?;
            proxy.heal()?;
            progress(&relay, random.u32(1..1500)).await?;
        }
        relay.program().kill9();
        ensure!(stage.value(&whole)? == "f", "confirmed at kill {life}");
        let reader = Reader::open_at(&stage.kafka.bootstrap(), &TOPICS, Isolation::Committed)?;
        inside += u32::from(reader.sees_open_transaction()?);
    }
    let committed = records(&stage, Isolation::Committed)?;
    ensure!(committed < ROWS, "published whole before the last kill");
    figures.add("kills", LIVES);
    figures.add("inside_kafka_transactions", inside);
    figures.add("committed_at_last_kill", committed);
    let relay = stage.relay_with(&ENV).await?;
    caught_up(&stage).await.with_context(|| relay.log_text())?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    ensure!(verdict.rows == ROWS, "{} rows", verdict.rows);
    let aborted = records(&stage, Isolation::Uncommitted)? - verdict.records;
    figures.add("records_aborted", aborted);
    figures.add("rows", verdict.rows);
    Ok(())
}

async fn insert(stage: &Stage) -> Result<()> {
    let sql = format!(
        "INSERT INTO outbox (event_type, transfer_id, payload) \
         SELECT (array['{}'])[1 + i % 4], 'k' || i % 4 || '-' || i % 97, jsonb_build_object('n', i) \
         FROM generate_series(1, {ROWS}) i",
        TOPICS.join("','")
    );
    let postgres = std::sync::Arc::clone(&stage.postgres);
    tokio::task::spawn_blocking(move || postgres.sql(DATABASE, &sql)).await??;
    Ok(())
}

/// Waits until this many more events are published.
async fn progress(relay: &Relay, events: u32) -> Result<()> {
    let published = || relay.count("outboxd_events_published_total", "");
    let wanted = published()? + f64::from(events);
    wait::until("progress", PROGRESS_WITHIN, async || {
        Ok(published()? >= wanted)
    })
    .await
    .with_context(|| relay.log_text())?;
    Ok(())
}

fn records(stage: &Stage, isolation: Isolation) -> Result<u64> {
    let mut records = 0;
    let reader = Reader::open_at(&stage.kafka.bootstrap(), &TOPICS, isolation)?;
    reader.drain(|_| records += 1)?;
    Ok(records)
}
