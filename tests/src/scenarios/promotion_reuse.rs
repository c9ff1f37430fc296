//! Another server, or an older state of the same one, takes the primary's place and writes other
//! transactions at the same LSNs. What it holds is published once, or the relay stops.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{DataCopy, Postgres, StopMode};

use super::checkpoints;
use super::stopped::{flowing, stops};
use crate::oracle::{self, Verdict};
use crate::scenario::{Figures, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "promotion-reuse",
    about: "a lagging standby promoted, a folder restored: LSNs come again, and no event is skipped",
    short: false,
    within: Duration::from_secs(500),
    run: |figures| Box::pin(run(figures)),
};

/// Events that only the old server has, and that are published before it dies.
const PHANTOMS: u32 = 40;
/// Events that the new server writes at the LSNs of the phantoms: more of them.
const NEWCOMERS: u32 = 60;
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
    restored().await.context("restored")?;
    Ok(())
}

/// The standby has the slot: everything that it holds and that is not published is published.
async fn synchronised(version: u32) -> Result<Verdict> {
    let mut stage = Stage::builder()
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
    let mut stage = Stage::builder().postgres(|p| p.version(16)).start().await?;
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
async fn judge(stage: &Stage, phantoms: u32, missing: u32) -> Result<Verdict> {
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
async fn lagging(stage: &Stage, synchronise: bool) -> Result<Postgres> {
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

fn copied(stage: &Stage) -> Result<DataCopy> {
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
fn promote(stage: &mut Stage, standby: Postgres) -> Result<String> {
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

/// The server has written past the LSN that the old one had reached.
fn reuses(stage: &Stage, end: &str) -> Result<()> {
    let reached = format!("SELECT pg_current_wal_insert_lsn() > '{end}'");
    ensure!(
        stage.value(&reached)? == "t",
        "LSNs up to {end} were not used again"
    );
    Ok(())
}

/// The folder of an earlier day is put back: same system, same timeline, and the checkpoint ahead.
async fn restored() -> Result<()> {
    let stage = Stage::start().await?;
    flowing(&stage, &[]).await?.stop().await?;
    let copy = copied(&stage)?;
    let relay = flowing(&stage, &[]).await?;
    stage.insert(PHANTOMS)?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    let end = stage.value("SELECT pg_current_wal_insert_lsn()")?;
    put_back(&stage, &copy)?;
    let relay = stage.launch(&[])?;
    stops(&stage, &relay, "wal-behind")
        .await
        .context("at once")?;
    relay.stop().await?;
    let confirmed = stage.confirmed()?;

    // Once it has written beyond the checkpoint, only the transactions tell.
    stage.insert(2 * NEWCOMERS)?;
    reuses(&stage, &end)?;
    let relay = stage.launch(&[])?;
    let told = wait::until("it stops", WITHIN, async || {
        let ready = relay
            .get("/ready")
            .map(|(_, body)| body)
            .unwrap_or_default();
        Ok(ready.contains("[transaction-foreign]") || ready.contains("[transaction-missing]"))
    });
    told.await.with_context(|| relay.log_text())?;
    let code = match relay.get("/ready")?.1.contains("[transaction-foreign]") {
        true => "transaction-foreign",
        false => "transaction-missing",
    };
    stops(&stage, &relay, code)
        .await
        .context("beyond the checkpoint")?;
    ensure!(
        stage.confirmed()? == confirmed,
        "the slot was moved past what it must show"
    );
    Ok(())
}

fn put_back(stage: &Stage, copy: &DataCopy) -> Result<()> {
    stage.postgres.stop(StopMode::Fast)?;
    stage.postgres.restore(copy)?;
    stage.postgres.start_again()?;
    Ok(())
}

pub(super) const RESTORED_UNUSED: Scenario = Scenario {
    name: "restored-unused",
    about: "a folder restored to before the first event, LSNs used again: no event is skipped",
    short: false,
    within: Duration::from_secs(200),
    run: |figures| Box::pin(restored_unused(figures)),
};

/// Nothing has ever been published, so the checkpoint names no transaction that could be missed:
/// only how far the WAL was read. The restored server writes its events below that.
async fn restored_unused(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    stage.relay(&[]).await?.stop().await?;
    let copy = copied(&stage)?;
    let relay = stage.relay(&[]).await?;
    stage.postgres.sql(
        DATABASE,
        "CREATE TABLE busy AS SELECT generate_series(1, 20000) AS i",
    )?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    let end = stage.value("SELECT pg_current_wal_insert_lsn()")?;
    put_back(&stage, &copy)?;
    let events_below = stage.value("SELECT pg_current_wal_insert_lsn()")?;
    stage.insert(NEWCOMERS)?;
    let below = format!("SELECT pg_current_wal_insert_lsn() < '{end}'");
    ensure!(
        stage.value(&below)? == "t",
        "the events do not lie below the checkpoint"
    );
    stage.postgres.sql(
        DATABASE,
        "CREATE TABLE busy AS SELECT generate_series(1, 40000) AS i",
    )?;
    reuses(&stage, &end)?;
    figures.add("events_from", events_below);
    let relay = stage.launch(&[])?;
    let settled = wait::until("it stops or goes on", WITHIN, async || {
        let status = relay.json("/status");
        Ok(status.is_ok_and(|status| {
            let state = &status["pipelines"][0]["state"];
            *state == "stopped" || *state == "streaming"
        }))
    });
    settled.await.with_context(|| relay.log_text())?;
    let status = relay.json("/status")?;
    if status["pipelines"][0]["state"] == "stopped" {
        let code = status["pipelines"][0]["last_failure"]["code"]
            .as_str()
            .unwrap_or_default();
        figures.add("stopped_by", code);
        return stops(&stage, &relay, code).await;
    }
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}
