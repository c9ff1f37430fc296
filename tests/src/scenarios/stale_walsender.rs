//! The relay's own old walsender holds the slot, because the server has not noticed that nobody
//! listens to it any more.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::Direction;

use super::keepalive_in_flight::{walsender, walsender_other_than};
use super::postgres_restart::caught_up;
use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "stale-walsender",
    about: "cut off in mid backlog, the old walsender holds the slot: waited for, not terminated",
    group: Group::Proof,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(run(figures)),
};

const ENV: [(&str, &str); 1] = [("OUTBOXD_POSTGRES_WAL_SENDER_TIMEOUT", "12s")];
const ROWS: u32 = 60_000;
const BYTES_PER_S: u64 = 3_000_000;
/// A standby looks at the slot, and tries to take it when it is free, or after a while.
const TRIES_MIN: usize = 1;
const STANDS_BY_WITHIN: Duration = Duration::from_secs(30);
const GONE_WITHIN: Duration = Duration::from_secs(60);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().proxied().start().await?;
    let relay = stage.relay_with(&ENV).await?;
    let proxy = stage.postgres_proxy()?;
    proxy.throttle(Direction::ToClient, BYTES_PER_S);
    insert(&stage).await?;
    wait::until("events flow", STANDS_BY_WITHIN, async || {
        Ok(relay.count("outboxd_events_published_total", "")? > 100.0)
    })
    .await?;
    let stale = walsender(&stage)?.context("no walsender")?;
    proxy.sever_clients();
    let severed = Instant::now();
    let tries = tries_beside(&stage, &relay, stale).await?;
    figures.add("tries", tries);
    let next = walsender_other_than(&stage, &[stale]).await;
    let next = next.with_context(|| relay.log_text())?;
    figures.add("resumed_after_ms", severed.elapsed().as_millis());
    ensure!(relay.program().exit_status().is_none(), "the relay ended");
    let log = std::fs::read_to_string(stage.postgres.log_path())?;
    ensure!(
        !log.contains("due to administrator command"),
        "somebody terminated a session"
    );
    let why = "terminating walsender process due to replication timeout";
    ensure!(
        log.contains(why),
        "the old walsender ended for another reason"
    );
    relay.ready().await?;
    ensure!(walsender(&stage)? == Some(next), "a third walsender");
    proxy.heal()?;
    caught_up(&stage).await.with_context(|| relay.log_text())?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}

/// How often the relay tried to get the slot while the old walsender held it.
async fn tries_beside(stage: &Stage, relay: &Relay, stale: u32) -> Result<usize> {
    wait::until("the relay stands by", STANDS_BY_WITHIN, async || {
        Ok(relay.json("/ready")?["role"] == "standby")
    })
    .await
    .with_context(|| relay.log_text())?;
    wait::until("the old walsender ends", GONE_WITHIN, async || {
        Ok(walsender(stage)? != Some(stale))
    })
    .await?;
    let log = std::fs::read_to_string(stage.postgres.log_path())?;
    let refused = format!("is active for PID {stale}");
    let tries = log.lines().filter(|line| line.ends_with(&refused)).count();
    ensure!(tries >= TRIES_MIN, "{tries} tries");
    Ok(tries)
}

async fn insert(stage: &Stage) -> Result<()> {
    let sql = format!(
        "DO $$ BEGIN FOR i IN 1..{ROWS} LOOP \
           INSERT INTO outbox (event_type, transfer_id, payload) VALUES ('transfers.settled', \
           'k' || i % 50, jsonb_build_object('n', i, 'pad', repeat('x', 1000))); \
           IF i % 20 = 0 THEN COMMIT; END IF; \
         END LOOP; END $$"
    );
    let postgres = std::sync::Arc::clone(&stage.postgres);
    tokio::task::spawn_blocking(move || postgres.sql(DATABASE, &sql)).await??;
    Ok(())
}
