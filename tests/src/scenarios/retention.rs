//! Rows whose states are not written back go only if the slot's stream had them: never those that
//! were committed before it, nor those that a repair has left out.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::feeds;
use crate::reader::Reader;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "retention",
    about: "without states only rows that the slot's stream had are removed",
    group: Group::Proof,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(run(figures)),
};

const TABLE: &str = include_str!("../../../sql/outbox.sql");
const UNWRITTEN: [(&str, &str); 1] = [("OUTBOXD_TABLES_WRITE_BACK", "off")];
const BACKFILLED: [(&str, &str); 2] = [UNWRITTEN[0], ("OUTBOXD_BACKFILL_ROWS", "all")];
const PRUNE: [&str; 3] = ["prune", "--older-than", "7d"];

async fn run(figures: &mut Figures) -> Result<()> {
    let removed = proven().await.context("a table that was empty")?;
    figures.add("removed", removed);
    let kept = unproven().await.context("a table with rows before")?;
    figures.add("kept", kept);
    let removed = backfilled().await.context("a table that was backfilled")?;
    figures.add("backfilled", removed);
    Ok(())
}

/// The table was empty when the slot was made: all of its rows are published, until a repair does
/// not look at all of them.
async fn proven() -> Result<usize> {
    let stage = stage(0).await?;
    let relay = relay(&stage).await?;
    let mut written = old_rows(&stage, 30).await?;
    stage.caught_up(&relay).await?;
    ensure!(pruned(&stage)? == 30, "not all rows went");
    relay.program().kill9();
    // Another session, from a checkpoint of the first.
    let next = self::relay(&stage).await?;
    written.extend(old_rows(&stage, 20).await?);
    stage.caught_up(&next).await?;
    ensure!(pruned(&stage)? == 20, "not all rows went");
    next.stop().await?;

    // Rows of the gap that look older than what a repair takes for unpublished.
    stage.drop_slot().await?;
    let left_out = old_rows(&stage, 5).await?;
    let done = repaired(&stage, &["repair", "--apply"])?;
    ensure!(done["feeds"] == 0, "{done}");
    let relay = self::relay(&stage).await?;
    stage.caught_up(&relay).await?;
    refused(&stage, 5)?;
    relay.stop().await?;

    let all = ["repair", "--anyway", "--since", "2000-01-01", "--apply"];
    let done = repaired(&stage, &all)?;
    ensure!(done["feeds"] == 5, "{done}");
    let relay = self::relay(&stage).await?;
    stage.caught_up(&relay).await?;
    ensure!(pruned(&stage)? == 5, "not all rows went");
    relay.stop().await?;
    written.extend(left_out);
    ensure!(published(&stage)? == written, "not what was written");
    Ok(written.len())
}

/// Rows that are older than the slot are not published. They stay, unless a person says otherwise.
async fn unproven() -> Result<usize> {
    let stage = stage(40).await?;
    let relay = relay(&stage).await?;
    let written = old_rows(&stage, 10).await?;
    stage.caught_up(&relay).await?;
    ensure!(published(&stage)? == written, "not what was written");
    refused(&stage, 50)?;
    let accepted = [&PRUNE[..], &["--accept-earlier-rows"]].concat();
    let accepted = feeds::command(&stage, &accepted, &UNWRITTEN)?;
    ensure!(accepted.contains("removed 50 rows"), "{accepted}");
    relay.stop().await?;
    Ok(40)
}

/// A backfill publishes all rows from before the slot, so they may go, too.
async fn backfilled() -> Result<u64> {
    let stage = stage_with(25, &BACKFILLED).await?;
    let relay = stage.relay_with(&BACKFILLED).await?;
    old_rows(&stage, 10).await?;
    stage.caught_up(&relay).await?;
    let removed = pruned(&stage)?;
    ensure!(removed == 35, "{removed} rows went");
    relay.stop().await?;
    ensure!(published(&stage)?.len() == 35, "not all are published");
    Ok(removed)
}

async fn stage(before: u32) -> Result<Stage> {
    stage_with(before, &UNWRITTEN).await
}

/// A stage whose states are not written, with so many rows from before the slot.
async fn stage_with(before: u32, env: &[(&str, &str)]) -> Result<Stage> {
    let stage = Stage::builder().patient().bare().start().await?;
    stage.postgres.sql(DATABASE, TABLE)?;
    old_rows(&stage, before).await?;
    let topics = TOPICS.iter().flat_map(|topic| ["--topic", topic]);
    let init: Vec<&str> = ["init", "--apply"].into_iter().chain(topics).collect();
    feeds::command(&stage, &init, env)?;
    Ok(stage)
}

async fn relay(stage: &Stage) -> Result<Relay> {
    stage.relay_with(&UNWRITTEN).await
}

/// Commits rows of events that occurred long ago; their ids.
async fn old_rows(stage: &Stage, rows: u32) -> Result<HashSet<String>> {
    let sql = format!(
        "INSERT INTO outbox (event_type, payload, created_at) \
         SELECT 'transfers.settled', '{{}}', '2001-01-01' FROM generate_series(1, {rows}) \
         RETURNING id::text"
    );
    feeds::ids(stage, &sql).await
}

/// How many rows `prune` has removed.
fn pruned(stage: &Stage) -> Result<u64> {
    let said = feeds::command(stage, &[&PRUNE[..], &["--json"]].concat(), &UNWRITTEN)?;
    let report: Value = serde_json::from_str(&said)?;
    let rows = report["pipelines"][0]["tables"][0]["rows"].as_u64();
    rows.with_context(|| said.clone())
}

/// `prune` removes none of the rows that are there, and says why.
fn refused(stage: &Stage, rows: u64) -> Result<()> {
    let refused = feeds::command(stage, &PRUNE, &UNWRITTEN);
    let said = refused.err().context("rows were removed")?.to_string();
    ensure!(said.contains("[retention-earlier-rows]"), "{said}");
    let left = stage.value("SELECT count(*) FROM outbox")?;
    ensure!(left == rows.to_string(), "{left} rows are left");
    Ok(())
}

fn repaired(stage: &Stage, command: &[&str]) -> Result<Value> {
    let said = feeds::command(stage, &[command, &["--json"]].concat(), &UNWRITTEN)?;
    serde_json::from_str(&said).with_context(|| said)
}

fn published(stage: &Stage) -> Result<HashSet<String>> {
    let mut published = HashSet::new();
    Reader::open(&stage.bootstrap(), &TOPICS)?.drain(|seen| {
        published.insert(seen.event_id);
    })?;
    Ok(published)
}
