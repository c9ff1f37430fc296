//! A standby that has missed the last events takes the primary's place and writes others at the
//! same LSNs. What it holds is published once, or the relay stops.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{DataCopy, Postgres, StopMode};

use super::checkpoints;
use super::stopped::{flowing, stops};
use crate::oracle::{self, Verdict};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "promotion-reuse",
    about: "a lagging standby is promoted and uses LSNs again: no event is skipped in silence",
    group: Group::Proof,
    within: Duration::from_secs(500),
    run: |figures| Box::pin(run(figures)),
};

/// Events that only the old server has, and that are published before it dies.
pub(super) const PHANTOMS: u32 = 40;
/// Events that the new server writes at the LSNs of the phantoms: more of them.
pub(super) const NEWCOMERS: u32 = 60;
const WITHIN: Duration = Duration::from_secs(60);

async fn run(figures: &mut Figures) -> Result<()> {
    for version in [17, 18] {
        let verdict = synchronised(version).await;
        let verdict = verdict.with_context(|| format!("a synchronised slot on {version}"))?;
        figures.add(&format!("rows_on_{version}"), verdict.rows);
        figures.add(&format!("phantoms_on_{version}"), verdict.aborted_seen);
    }
    let verdict = slotless().await.context("a standby without the slot")?;
    figures.add("slotless_gap", verdict.lost);
    Ok(())
}

/// The standby has the slot: everything that it holds and that is not published is published.
async fn synchronised(version: u32) -> Result<Verdict> {
    let mut stage = Stage::builder()
        .patient()
        .postgres(|p| p.version(version))
        .start()
        .await?;
    let standby = lagging(&stage, true).await?;
    let published = promote(&mut stage, standby)?;
    stage.insert(NEWCOMERS)?;
    reuses(&stage, &published)?;
    let relay = stage.relay(&[]).await?;
    stage.caught_up(&relay).await?;
    // A second start, from a checkpoint of the new timeline.
    relay.program().kill9();
    flowing(&stage, &[]).await?.stop().await?;
    judge(&stage, PHANTOMS, 0).await
}

/// Before 17 a standby has no slot. Made by hand it is not the old one, and events are missing.
async fn slotless() -> Result<Verdict> {
    let mut stage = Stage::builder()
        .patient()
        .postgres(|p| p.version(16))
        .start()
        .await?;
    let standby = lagging(&stage, false).await?;
    let published = promote(&mut stage, standby)?;
    stage.insert(NEWCOMERS)?;
    reuses(&stage, &published)?;
    let relay = stage.launch(&[])?;
    stops(&stage, &relay, "slot-missing").await?;
    stage.value("SELECT pg_create_logical_replication_slot('outboxd', 'pgoutput')")?;
    // Behind it, as an operator would check that it works.
    stage.insert(3)?;
    wait::until("it says so", WITHIN, async || {
        Ok(relay.get("/ready")?.1.contains("[slot-ahead]"))
    })
    .await
    .with_context(|| relay.log_text())?;
    stops(&stage, &relay, "slot-ahead").await?;
    relay.stop().await?;
    checkpoints::delete(&stage).await?;
    stage.init(&[])?;
    flowing(&stage, &["--adopt-slot"]).await?.stop().await?;
    judge(&stage, PHANTOMS, NEWCOMERS).await
}

/// Everything that was published on the old server but for the phantoms, and everything of the new
/// one but for what a stop was about. Positions go back where LSNs are used again, so the order is
/// not judged.
pub(super) async fn judge(stage: &Stage, phantoms: u32, missing: u32) -> Result<Verdict> {
    let verdict = oracle::judge(stage).await?;
    let (lost, doubled) = (verdict.lost, verdict.duplicated);
    let as_expected =
        lost == u64::from(missing) && doubled == 0 && verdict.aborted_seen == u64::from(phantoms);
    ensure!(
        as_expected,
        "{verdict}: {:?} {:?}",
        verdict.examples,
        verdict.repeats
    );
    Ok(verdict)
}

/// A standby that has missed the last events, all of which are published.
pub(super) async fn lagging(stage: &Stage, synchronise: bool) -> Result<Postgres> {
    flowing(stage, &[]).await?.stop().await?;
    let copy = copied(stage)?;
    let primary = Arc::clone(&stage.postgres);
    let standby = tokio::task::spawn_blocking(move || primary.standby(&copy)).await??;
    let relay = stage.relay(&[]).await?;
    stage.insert(20)?;
    stage.caught_up(&relay).await?;
    if synchronise {
        synchronised_slot(stage, &standby).await?;
    }
    replayed(stage, &standby).await?;
    cut_off(&standby).await?;
    stage.insert(PHANTOMS)?;
    stage.caught_up(&relay).await?;
    relay.program().kill9();
    Ok(standby)
}

/// A copy of the data folder as it is now.
pub(super) fn copied(stage: &Stage) -> Result<DataCopy> {
    stage.postgres.stop(StopMode::Fast)?;
    let copy = stage.postgres.copy()?;
    stage.postgres.start_again()?;
    Ok(copy)
}

fn value(server: &Postgres, sql: &str) -> Result<String> {
    let rows = server.sql(DATABASE, sql)?;
    let value = rows.into_iter().flatten().flatten().next();
    value.with_context(|| format!("{sql}: no value"))
}

/// A synchronised slot is of use once the standby has caught up with what the primary's holds.
async fn synchronised_slot(stage: &Stage, standby: &Postgres) -> Result<()> {
    let usable = "SELECT count(*) FROM pg_replication_slots \
                  WHERE slot_name = 'outboxd' AND synced AND NOT temporary";
    wait::until("the slot is synchronised", WITHIN, async || {
        stage.value("SELECT pg_log_standby_snapshot()")?;
        value(standby, "SELECT pg_sync_replication_slots()::text")?;
        Ok(value(standby, usable)? == "1")
    })
    .await?;
    Ok(())
}

async fn replayed(stage: &Stage, standby: &Postgres) -> Result<()> {
    let end = stage.value("SELECT pg_current_wal_lsn()")?;
    let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'");
    wait::until("the standby follows", WITHIN, async || {
        Ok(value(standby, &replayed)? == "t")
    })
    .await?;
    Ok(())
}

async fn cut_off(standby: &Postgres) -> Result<()> {
    standby.sql("postgres", "ALTER SYSTEM SET primary_conninfo = ''")?;
    value(standby, "SELECT pg_reload_conf()")?;
    wait::until("it receives nothing more", WITHIN, async || {
        Ok(value(standby, "SELECT count(*) FROM pg_stat_wal_receiver")? == "0")
    })
    .await?;
    Ok(())
}

/// The primary dies and the standby takes its place; where the WAL of the dead one ended.
pub(super) fn promote(stage: &mut Stage, standby: Postgres) -> Result<String> {
    let end = stage.value("SELECT pg_current_wal_lsn()")?;
    stage.postgres.kill9()?;
    ensure!(
        value(&standby, "SELECT pg_promote()")? == "t",
        "not promoted"
    );
    let switched = value(&standby, "SELECT pg_current_wal_lsn()")?;
    let lagged = format!("SELECT '{switched}'::pg_lsn < '{end}'");
    ensure!(
        value(&standby, &lagged)? == "t",
        "the standby had everything: {switched}, {end}"
    );
    stage.postgres = Arc::new(standby);
    Ok(end)
}

/// The server writes past the LSN that the old one had reached.
pub(super) fn reuses(stage: &Stage, end: &str) -> Result<()> {
    let reached = format!(
        "SELECT (pg_logical_emit_message(false, 'filler', repeat('x', 8000)) > '{end}')::text"
    );
    while stage.value(&reached)? == "false" {}
    Ok(())
}
