//! Keepalives move the slot past unrelated WAL, never past what is on its way to a broker that
//! does not answer; and they go on being answered meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::Direction;

use super::postgres_restart::caught_up;
use crate::oracle;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "keepalive-in-flight",
    about: "the broker hangs: the slot stays before unpublished rows, and the walsender lives",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

const WAL_SENDER_TIMEOUT: Duration = Duration::from_secs(5);
const ENV: [(&str, &str); 1] = [("OUTBOXD_POSTGRES_WAL_SENDER_TIMEOUT", "5s")];
const ROWS: &str = "INSERT INTO outbox (event_type, transfer_id, payload) \
     SELECT 'transfers.settled', 'k' || i % 7, jsonb_build_object('n', i) \
     FROM generate_series(1, 300) i";
const UNRELATED: &str =
    "INSERT INTO busy SELECT i, repeat('x', 500) FROM generate_series(1, 2000) i";

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().proxied().start().await?;
    let relay = stage.relay_with(&ENV).await?;
    let create = "CREATE TABLE busy (id bigint, pad text)";
    stage.postgres.sql(DATABASE, create)?;
    caught_up(&stage).await?;
    let pid = walsender(&stage)?.context("no walsender")?;

    stage.kafka_proxy()?.freeze(Direction::Both);
    stage.postgres.sql(DATABASE, ROWS)?;
    let unpublished = stage.value("SELECT pg_current_wal_insert_lsn()")?;
    let hung = Instant::now();
    let mut looks = 0;
    while hung.elapsed() < WAL_SENDER_TIMEOUT * 3 {
        stage.postgres.sql(DATABASE, UNRELATED)?;
        look(&stage, pid, &unpublished).with_context(|| relay.log_text())?;
        looks += 1;
        // Looks spread over the hang; this waits for nothing.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let beyond = format!("SELECT pg_current_wal_lsn() - '{unpublished}'::pg_lsn");
    figures.add("unrelated_wal_bytes", stage.value(&beyond)?);
    figures.add("looks", looks);

    relay.program().kill9();
    let held = format!("SELECT confirmed_flush_lsn < '{unpublished}' FROM pg_replication_slots");
    ensure!(stage.value(&held)? == "t", "confirmed at the kill");
    stage.kafka_proxy()?.heal()?;
    let relay = stage.relay_with(&ENV).await?;
    caught_up(&stage).await.with_context(|| relay.log_text())?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}

/// The slot stands before the unpublished rows, the same walsender serves it, and it has heard
/// from the relay within its timeout.
fn look(stage: &Stage, pid: u32, unpublished: &str) -> Result<()> {
    let confirmed = stage.value("SELECT confirmed_flush_lsn FROM pg_replication_slots")?;
    let held = format!("SELECT '{confirmed}'::pg_lsn < '{unpublished}'::pg_lsn");
    ensure!(
        stage.value(&held)? == "t",
        "confirmed {confirmed} past unpublished rows before {unpublished}"
    );
    let now = walsender(stage)?;
    ensure!(now == Some(pid), "walsender {pid} became {now:?}");
    Ok(())
}

/// The process that serves the slot.
pub(super) fn walsender(stage: &Stage) -> Result<Option<u32>> {
    let pid = stage.value("SELECT coalesce(active_pid, 0) FROM pg_replication_slots")?;
    let pid: u32 = pid.parse()?;
    Ok((pid != 0).then_some(pid))
}

/// Waits until a walsender serves the slot that is none of `others`.
pub(super) async fn walsender_other_than(stage: &Stage, others: &[u32]) -> Result<u32> {
    let mut found = None;
    let another = wait::until("another walsender", Duration::from_secs(60), async || {
        found = walsender(stage)?.filter(|pid| !others.contains(pid));
        Ok(found.is_some())
    });
    another.await?;
    found.context("no walsender")
}
