//! A lagging standby with a failover slot is promoted: what it has is published once, and what it
//! has lost is told.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::feeds;
use super::promotion_reuse::{NEWCOMERS, PHANTOMS, judge, lagging, promote, reuses};
use crate::reader::Reader;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{Stage, TOPICS};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "promotion",
    about: "a lagging standby with a failover slot is promoted: its rows arrive once, lost ones are listed",
    group: Group::Proof,
    within: Duration::from_secs(400),
    run: |figures| Box::pin(run(figures)),
};

async fn run(figures: &mut Figures) -> Result<()> {
    for version in [17, 18] {
        let rows = promoted(version).await;
        let rows = rows.with_context(|| format!("on {version}"))?;
        figures.add(&format!("rows_on_{version}"), rows);
    }
    Ok(())
}

async fn promoted(version: u32) -> Result<u64> {
    let mut stage = Stage::builder()
        .patient()
        .postgres(|p| p.version(version))
        .start()
        .await?;
    let failover = "SELECT failover::text FROM pg_replication_slots WHERE slot_name = 'outboxd'";
    ensure!(stage.value(failover)? == "true", "no failover slot");
    let standby = lagging(&stage, true).await?;
    let published = promote(&mut stage, standby)?;
    // Before anybody has followed the new server, a repair says the same.
    let early = feeds::json(&stage, &["repair", "--anyway"])?;
    stage.insert(NEWCOMERS)?;
    reuses(&stage, &published)?;
    let relay = stage.relay(&[]).await?;
    stage.caught_up(&relay).await?;
    let told = relay.log_text();
    let verdict = judge(&stage, PHANTOMS, 0).await?;
    feeds::none_pending(&stage).await?;
    relay.stop().await?;

    let lost = lost(&stage).await?;
    let from = named(&told).with_context(|| told.clone())?;
    let late = feeds::json(&stage, &["repair", "--phantoms-from", &from])?;
    for report in [early, late] {
        ensure!(phantoms(&report)? == lost, "{report}");
    }
    Ok(verdict.rows)
}

/// Events of rows that the server does not have.
async fn lost(stage: &Stage) -> Result<HashSet<String>> {
    let rows = feeds::ids(stage, "SELECT id::text FROM outbox").await?;
    let mut lost = HashSet::new();
    Reader::open(&stage.bootstrap(), &TOPICS)?.drain(|seen| {
        if !rows.contains(&seen.event_id) {
            lost.insert(seen.event_id);
        }
    })?;
    ensure!(lost.len() == PHANTOMS as usize, "{} are lost", lost.len());
    Ok(lost)
}

/// The position that the relay's warning names.
fn named(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("--phantoms-from ")?;
    let end = rest.find(|c: char| !c.is_ascii_hexdigit() && c != '/')?;
    rest.get(..end).map(str::to_owned)
}

fn phantoms(report: &Value) -> Result<HashSet<String>> {
    let events = report["phantoms"]["events"].as_array();
    let events = events.with_context(|| format!("no phantoms: {report}"))?;
    let id = |event: &Value| event["id"].as_str().map(str::to_owned).context("no id");
    events.iter().map(id).collect()
}
