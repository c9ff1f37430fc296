//! A commit request that is stuck on a connection that broke. The client library asks again on
//! another one, so the relay hears of nothing; then the first request arrives, in the middle of the
//! next transaction.
//!
//! Without the epoch that a producer of KIP-890 raises with each transaction, the coordinator can't
//! tell such a request from one that ends the present transaction.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{Api, Direction};

use super::postgres_restart::caught_up;
use crate::oracle;
use crate::reader::{Isolation, Reader};
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "late-commit",
    about: "a commit asked for twice arrives again inside the next transaction: exactly once",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

/// Uncompressed, so that the throttle makes a transaction last some seconds.
const ENV: [(&str, &str); 2] = [
    ("CONCURRENCY", "1"),
    ("OUTBOXD_KAFKA_PROPERTIES_COMPRESSION_TYPE", "none"),
];
const BYTES_PER_S: u64 = 1_000_000;
const ROWS: u32 = 16_000;
const WITHIN: Duration = Duration::from_secs(60);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().proxied().start().await?;
    let relay = stage.relay_with(&ENV).await?;
    let sessions = relay.count("outboxd_sessions_total", "")?;
    caught_up(&stage).await?;
    let proxy = stage.kafka_proxy()?;
    proxy.throttle(Direction::ToServer, BYTES_PER_S);
    insert(&stage).await?;
    in_the_middle(&stage, &relay).await?;
    proxy.strand_requests(Api::END_TXN, 1);
    proxy.await_held(1, WITHIN)?;
    let published = relay.count("outboxd_events_published_total", "")?;
    wait::until("the commit is asked for again", WITHIN, async || {
        Ok(relay.count("outboxd_events_published_total", "")? > published)
    })
    .await?;
    in_the_middle(&stage, &relay).await?;
    proxy.release_requests();
    wait::until("the late commit is answered", WITHIN, async || {
        Ok(!proxy.withheld_errors(Api::END_TXN).is_empty())
    })
    .await?;
    let errors = proxy.withheld_errors(Api::END_TXN);
    figures.add("late_commit_errors", format!("{errors:?}"));
    proxy.heal()?;
    caught_up(&stage).await.with_context(|| relay.log_text())?;
    let lost = relay.count("outboxd_sessions_total", "")? - sessions;
    ensure!(
        lost > 0.0,
        "the producer that may have committed twice went on"
    );
    figures.add("sessions_lost", lost);
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}

/// Waits until some records of a window have arrived and others have not.
async fn in_the_middle(stage: &Stage, relay: &Relay) -> Result<()> {
    let proxy = stage.kafka_proxy()?;
    let reader = Reader::open_at(&stage.kafka.bootstrap(), &TOPICS, Isolation::Committed)?;
    let began = proxy.seen(Api::PRODUCE);
    wait::until("a transaction is open", WITHIN, async || {
        Ok(proxy.seen(Api::PRODUCE) > began && reader.sees_open_transaction()?)
    })
    .await
    .with_context(|| relay.log_text())?;
    Ok(())
}

async fn insert(stage: &Stage) -> Result<()> {
    let sql = format!(
        "INSERT INTO outbox (event_type, transfer_id, payload) \
         SELECT 'transfers.settled', 'k' || i % 97, \
                jsonb_build_object('n', i, 'pad', repeat('x', 900)) \
         FROM generate_series(1, {ROWS}) i"
    );
    let postgres = std::sync::Arc::clone(&stage.postgres);
    tokio::task::spawn_blocking(move || postgres.sql(DATABASE, &sql)).await??;
    Ok(())
}
