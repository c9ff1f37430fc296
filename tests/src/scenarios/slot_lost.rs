//! A slot that the server has invalidated, with rows that nobody has published.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::feeds;
use super::slot_identity::lose_slot;
use super::stopped::{flowing, stops};
use crate::oracle;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;
use crate::writer::Writers;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "slot-lost",
    about: "a lost slot with unpublished rows: repair shows exactly those and publishes exactly those",
    group: Group::Proof,
    within: Duration::from_secs(400),
    run: |figures| Box::pin(run(figures)),
};

/// Rows that are published before, and some that are not.
const BEFORE: u32 = 200;
const GAP: u32 = 300;
/// Rows that are published, and were not told of it.
const UNTOLD: u32 = 20;

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    // The time of an event is its service's business, and says nothing of when it was committed.
    stage.postgres.sql(
        DATABASE,
        "ALTER TABLE outbox ALTER created_at SET DEFAULT now() + interval '1 year'",
    )?;
    let relay = flowing(&stage, &[]).await?;
    stage.insert(BEFORE)?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    feeds::none_pending(&stage).await?;
    stage.insert(GAP)?;
    lose_slot(&stage).await?;

    let relay = stage.launch(&[])?;
    stops(&stage, &relay, "slot-lost").await?;
    let unpublished = feeds::ids(
        &stage,
        "SELECT id::text FROM outbox WHERE state = 'PENDING'",
    )
    .await?;
    ensure!(
        unpublished.len() == GAP as usize,
        "{} rows",
        unpublished.len()
    );
    let untold = format!(
        "UPDATE outbox SET state = 'PENDING' WHERE id IN \
         (SELECT id FROM outbox WHERE state = 'SENT' LIMIT {UNTOLD})"
    );
    stage.postgres.sql(DATABASE, &untold)?;
    let plan = feeds::json(&stage, &["repair", "--list"])?;
    ensure!(plan["code"] == "slot-lost", "{plan}");
    ensure!(
        feeds::planned(&plan)? == unpublished,
        "another plan: {plan}"
    );
    figures.add("planned", unpublished.len());

    killed(&stage, &relay).await?;
    let again = feeds::json(&stage, &["repair", "--list"])?;
    ensure!(again["code"] == "repair-unfinished", "{again}");
    ensure!(
        feeds::planned(&again)? == unpublished,
        "another plan: {again}"
    );

    // The relay has been running all the time, and goes on by itself.
    let writers = Writers::start(&stage.url(), 2, Duration::from_millis(50));
    let done = feeds::json(&stage, &["repair", "--apply"])?;
    ensure!(done["feeds"].as_u64() >= Some(u64::from(GAP)), "{done}");
    relay.ready().await?;
    writers.stop().await?;
    feeds::no_feed_left(&stage, &relay).await?;
    stage.caught_up(&relay).await?;
    feeds::none_pending(&stage).await?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    let nothing = feeds::json(&stage, &["repair"])?;
    ensure!(nothing.is_null(), "{nothing}");
    Ok(())
}

/// A repair that dies once the new slot is there: nobody goes on with that slot.
async fn killed(stage: &Stage, relay: &crate::relay::Relay) -> Result<()> {
    let hold = feeds::hold_gathering(stage).await?;
    let repair = feeds::start(stage, &["repair", "--apply"])?;
    feeds::gathering(stage).await?;
    let standing_by = wait::until(
        "the relay leaves it alone",
        Duration::from_secs(30),
        async || {
            let status = relay.json("/status")?;
            Ok(status["pipelines"][0]["last_failure"]["code"] == "slot-active")
        },
    );
    standing_by.await?;
    repair.kill9();
    let checkpoint = feeds::checkpoint(stage)?;
    ensure!(checkpoint["kind"] == "repair", "{checkpoint}");
    drop(hold);
    stops(stage, relay, "repair-unfinished").await
}
