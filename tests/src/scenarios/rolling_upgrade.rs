//! From one release to the next: relays replaced one by one under load, a checkpoint of an older relay, one
//! of a newer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::postgres_restart::caught_up;
use super::stopped::stops;
use super::takeover::{flows, stands_by};
use super::{checkpoints, feeds};
use crate::oracle;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::writer::Writers;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "rolling-upgrade",
    about: "relays replaced one by one under load; a checkpoint as the first relays wrote it is read, a newer one refused",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

/// What the records of the first relays did not have.
const LATER: [&str; 7] = [
    "floor",
    "settled_below",
    "feed",
    "coverage",
    "whole_tables",
    "exceptions",
    "transactional_id_prefix",
];

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    let writers = Writers::start(&stage.url(), 2, Duration::from_millis(20));
    let active = stage.relay(&[]).await?;
    let standby = stage.launch(&[])?;
    stands_by(&standby).await?;
    flows(&active).await?;

    // The standby first, then the active one.
    standby.stop().await?;
    let next = stage.launch(&[])?;
    stands_by(&next).await?;
    let ended = active.stop().await?;
    figures.add("ended_ms", ended.as_millis());
    flows(&next).await?;
    let last = stage.launch(&[])?;
    stands_by(&last).await?;
    last.stop().await?;
    writers.stop().await?;
    caught_up(&stage).await.with_context(|| next.log_text())?;
    next.stop().await?;
    figures.add("rows", oracle::require_exact(&stage).await?.rows);

    let current = feeds::checkpoint(&stage)?;
    older(&stage, &current).await?;
    newer(&stage).await
}

/// An older relay ran last.
async fn older(stage: &Stage, current: &Value) -> Result<()> {
    let mut older = current.clone();
    let fields = older.as_object_mut().context("no object")?;
    let before = fields.len();
    LATER.iter().for_each(|name| drop(fields.remove(*name)));
    ensure!(fields.len() < before, "nothing to leave out: {current}");
    write(stage, &older)?;
    let relay = stage.relay(&[]).await?;
    stage.insert(50)?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    oracle::require_exact(stage).await?;
    Ok(())
}

/// A newer relay ran last: this one touches nothing, and goes on once that record is gone.
async fn newer(stage: &Stage) -> Result<()> {
    let current = feeds::checkpoint(stage)?;
    let mut newer = current.clone();
    newer["format"] = json!(current["format"].as_u64().context("no format")? + 1);
    write(stage, &newer)?;
    stage.insert(50)?;
    let relay = stage.launch(&[])?;
    stops(stage, &relay, "checkpoint-unreadable").await?;
    write(stage, &current)?;
    relay.ready().await?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    oracle::require_exact(stage).await?;
    Ok(())
}

fn write(stage: &Stage, checkpoint: &Value) -> Result<()> {
    checkpoints::write(stage, "checkpoint", checkpoint.to_string().as_bytes())
}
