//! A row so large, over a connection so slow, that it takes seconds. Nothing else comes meanwhile,
//! so `wal_sender_timeout` has to be longer (docs/guarantees.md).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::Direction;

use super::backlog::published;
use super::postgres_restart::caught_up;
use crate::oracle;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "large-row",
    about: "a row of 30 MB at 5 MB/s, with a wal_sender_timeout that allows for it, arrives once",
    group: Group::Proof,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(run(figures)),
};

const BROKER_BYTES_MAX: &str = "48000000";
const ENV: [(&str, &str); 4] = [
    ("OUTBOXD_POSTGRES_WAL_SENDER_TIMEOUT", "20s"),
    ("OUTBOXD_EVENT_MAX_BYTES", "40MB"),
    ("OUTBOXD_BATCH_MAX_BYTES", "40MB"),
    ("OUTBOXD_KAFKA_PROPERTIES_MESSAGE_MAX_BYTES", "48000000"),
];
const ROW_BYTES: usize = 30_000_000;
const BYTES_PER_S: u64 = 5_000_000;
/// Ten times what the bytes need.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .proxied()
        .kafka(|kafka| {
            let kafka = kafka.setting("message.max.bytes", BROKER_BYTES_MAX);
            kafka.heap_mb(1024)
        })
        .start()
        .await?;
    let relay = stage.relay_with(&ENV).await?;
    caught_up(&stage).await?;
    let sessions = relay.count("outboxd_sessions_total", "")?;
    let proxy = stage.postgres_proxy()?;
    proxy.throttle(Direction::ToClient, BYTES_PER_S);
    // Small rows before and behind it, which must not overtake it.
    let sql = format!(
        "INSERT INTO outbox (event_type, transfer_id, payload) SELECT 'transfers.settled', 'k', \
         jsonb_build_object('n', n, 'pad', repeat('x', bytes)) \
         FROM (VALUES (1, 10), (2, {ROW_BYTES}), (3, 10)) AS t(n, bytes)"
    );
    let postgres = std::sync::Arc::clone(&stage.postgres);
    tokio::task::spawn_blocking(move || postgres.sql(DATABASE, &sql)).await??;
    let began = Instant::now();
    published(&relay, 3.0, ARRIVES_WITHIN).await?;
    let took = began.elapsed();
    figures.add("seconds", format!("{:.1}", took.as_secs_f64()));
    let retries = relay.count("outboxd_sessions_total", "")? - sessions;
    figures.add("sessions_lost", retries);
    ensure!(took > Duration::from_secs(3), "nothing slowed it down");
    proxy.heal()?;
    caught_up(&stage).await.with_context(|| relay.log_text())?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}
