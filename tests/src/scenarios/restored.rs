//! A file-level copy of an earlier day is put back: the same system on the same timeline, with a
//! checkpoint that is ahead of it. Its LSNs come again for other transactions.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use testbed::{DataCopy, StopMode};

use super::promotion_reuse::{copied, reuses};
use super::stopped::{flowing, stops};
use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const RESTORED: Scenario = Scenario {
    name: "restored",
    about: "a copy of the data folder put back, with the checkpoint ahead: stopped, and stays so",
    group: Group::Proof,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(restored(figures)),
};

pub(super) const RESTORED_BUSY: Scenario = Scenario {
    name: "restored-busy",
    about: "as restored, with much other WAL before the events, so that they come late",
    group: Group::Alone,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(restored_busy(figures)),
};

/// Events that the copy does not have.
const PHANTOMS: u32 = 40;
/// Events that are written at the LSNs of the phantoms and around them.
const NEWCOMERS: u32 = 60;
const WITHIN: Duration = Duration::from_secs(60);

/// First at once, then after the server has written beyond the checkpoint, when only the
/// transactions tell.
async fn restored(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    flowing(&stage, &[]).await?.stop().await?;
    let copy = copied(&stage)?;
    let relay = flowing(&stage, &[]).await?;
    stage.insert(PHANTOMS)?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    let end = stage.value("SELECT pg_current_wal_insert_lsn()")?;
    put_back(&stage, &copy)?;
    let confirmed = stage.confirmed()?;
    let relay = stage.launch(&[])?;
    stops(&stage, &relay, "wal-behind")
        .await
        .context("at once")?;
    relay.stop().await?;
    stage.insert(2 * NEWCOMERS)?;
    reuses(&stage, &end)?;
    let code = disproved(&stage, &confirmed).await?;
    figures.add("then_stopped_by", code);
    Ok(())
}

/// The checkpoint's transaction does not come again: the relay stops, the slot stays, and it is
/// still so when it looks again.
async fn disproved(stage: &Stage, confirmed: &str) -> Result<String> {
    let relay = stage.launch(&[])?;
    let Some(code) = stopped_by(&relay).await? else {
        stage.caught_up(&relay).await?;
        relay.stop().await?;
        let verdict = oracle::judge(stage).await?;
        bail!(
            "it goes on, with the slot at {}: {verdict}",
            stage.confirmed()?
        );
    };
    let known = ["transaction-foreign", "transaction-missing"];
    ensure!(known.contains(&&*code), "stopped by {code}");
    let stays = stops(stage, &relay, &code).await;
    let now = stage.confirmed()?;
    let moved = format!("the slot was at {confirmed} and is at {now}");
    stays.with_context(|| moved.clone())?;
    ensure!(now == confirmed, "{moved}");
    Ok(code)
}

/// The code that it stops with, if it does.
async fn stopped_by(relay: &Relay) -> Result<Option<String>> {
    let mut code = None;
    let stopped = wait::until("it stops", WITHIN, async || {
        let status = relay.json("/status").unwrap_or_default();
        let pipeline = &status["pipelines"][0];
        if pipeline["state"] == "stopped" {
            code = pipeline["last_failure"]["code"].as_str().map(str::to_owned);
        }
        Ok(code.is_some())
    });
    Ok(stopped.await.ok().and(code))
}

const BUSY: &str = "INSERT INTO busy SELECT generate_series(1, 1500000)";
const LESS_BUSY: &str = "INSERT INTO busy SELECT generate_series(1, 1000000)";

/// The server needs a while to read through other WAL before it can show the first transaction.
/// Until then nothing proves the checkpoint, so nothing may be confirmed.
async fn restored_busy(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    stage.postgres.sql(DATABASE, "CREATE TABLE busy (i int)")?;
    flowing(&stage, &[]).await?.stop().await?;
    let copy = copied(&stage)?;
    let relay = flowing(&stage, &[]).await?;
    stage.postgres.sql(DATABASE, BUSY)?;
    stage.insert(PHANTOMS)?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    let end = stage.value("SELECT pg_current_wal_insert_lsn()")?;
    put_back(&stage, &copy)?;
    let confirmed = stage.confirmed()?;
    stage.postgres.sql(DATABASE, LESS_BUSY)?;
    stage.insert(NEWCOMERS)?;
    let below = format!("SELECT pg_current_wal_insert_lsn() < '{end}'");
    ensure!(
        stage.value(&below)? == "t",
        "the events do not lie below the checkpoint"
    );
    stage.postgres.sql(DATABASE, BUSY)?;
    reuses(&stage, &end)?;
    let code = disproved(&stage, &confirmed).await?;
    figures.add("stopped_by", code);
    Ok(())
}

pub(super) fn put_back(stage: &Stage, copy: &DataCopy) -> Result<()> {
    stage.postgres.stop(StopMode::Fast)?;
    stage.postgres.restore(copy)?;
    stage.postgres.start_again()?;
    Ok(())
}

pub(super) const RESTORED_UNUSED: Scenario = Scenario {
    name: "restored-unused",
    about: "a folder restored to before the first event, LSNs used again: no event is skipped",
    group: Group::Proof,
    within: Duration::from_secs(200),
    run: |figures| Box::pin(restored_unused(figures)),
};

/// Nothing has ever been published, so the checkpoint names no transaction that could be missed:
/// only how far the WAL was read. The restored server writes its events below that.
async fn restored_unused(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
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
