//! The slot is not what it was: dropped, made again, advanced, invalidated. Each time the relay
//! must stop and say so, and the remedy that it names must set events flowing again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::checkpoints;
use super::misconfiguration::doctor_fails;
use super::stopped::{flowing, stops};
use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "slot-identity",
    about: "a slot dropped, made again, advanced or invalidated stops the relay, and never silently",
    group: Group::Proof,
    within: Duration::from_secs(400),
    run: |figures| Box::pin(run(figures)),
};

/// Events that no slot holds any more once the fault has struck.
const GAP: u32 = 5;

const DROP: &str = "SELECT pg_drop_replication_slot('outboxd')";
const CREATE: &str = "SELECT pg_create_logical_replication_slot('outboxd', 'pgoutput')";
const ADVANCE: &str = "SELECT pg_replication_slot_advance('outboxd', pg_current_wal_flush_lsn())";

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    older_copy(&stage).await.context("an older copy")?;
    let mut gaps = 0;
    for (name, faults, code) in [
        ("dropped", &[DROP][..], "slot-missing"),
        ("made again", &[DROP, CREATE], "slot-ahead"),
        ("advanced", &[ADVANCE], "slot-ahead"),
    ] {
        away(&stage, faults, code).await.context(name)?;
        gaps += 1;
    }
    for (name, faults, code) in [
        ("dropped in mid-stream", &[DROP][..], "slot-missing"),
        ("made again in mid-stream", &[DROP, CREATE], "slot-ahead"),
        ("advanced in mid-stream", &[ADVANCE], "slot-ahead"),
    ] {
        frozen(&stage, faults, code).await.context(name)?;
        gaps += 1;
    }
    invalidated(&stage).await.context("invalidated")?;
    gaps += 1;

    // What is missing is what the stops were about, and nothing else.
    let verdict = oracle::judge(&stage).await?;
    ensure!(
        verdict.lost == u64::from(gaps * GAP),
        "{verdict}: {:?}",
        verdict.examples
    );
    let rest = verdict.duplicated + verdict.misordered + verdict.aborted_seen;
    ensure!(
        rest == 0,
        "{verdict}: {:?} {:?}",
        verdict.examples,
        verdict.repeats
    );
    figures.add("stops", gaps);
    figures.add("rows", verdict.rows);
    Ok(())
}

/// An older slot holds more than is needed: what is published is skipped, the rest is published.
async fn older_copy(stage: &Stage) -> Result<()> {
    flowing(stage, &[]).await?.stop().await?;
    stage.value("SELECT pg_copy_logical_replication_slot('outboxd', 'older')")?;
    flowing(stage, &[]).await?.stop().await?;
    stage.slot_free().await?;
    let before = stage.confirmed()?;
    stage.value(DROP)?;
    stage.value("SELECT pg_copy_logical_replication_slot('older', 'outboxd')")?;
    stage.value("SELECT pg_drop_replication_slot('older')")?;
    let older = format!("SELECT '{}'::pg_lsn < '{before}'", stage.confirmed()?);
    ensure!(stage.value(&older)? == "t", "the copy is not older");
    stage.insert(GAP)?;
    flowing(stage, &[]).await?.stop().await?;
    Ok(())
}

/// The fault strikes while no relay runs.
async fn away(stage: &Stage, faults: &[&str], code: &str) -> Result<()> {
    flowing(stage, &[]).await?.stop().await?;
    stage.slot_free().await?;
    stage.insert(GAP)?;
    for fault in faults {
        stage.value(fault)?;
    }
    doctor_fails(&stage.flags(), code)?;
    let relay = stage.launch(&[])?;
    stops(stage, &relay, code).await?;
    remedy(stage, relay, code).await
}

/// The fault strikes a relay in mid-stream. It is frozen meanwhile, so that it can't come first.
async fn frozen(stage: &Stage, faults: &[&str], code: &str) -> Result<()> {
    let relay = flowing(stage, &[]).await?;
    relay.program().pause();
    release(stage).await?;
    stage.insert(GAP)?;
    for fault in faults {
        stage.value(fault)?;
    }
    relay.program().resume();
    stops(stage, &relay, code).await?;
    remedy(stage, relay, code).await
}

/// Ends the walsender of the frozen relay.
async fn release(stage: &Stage) -> Result<()> {
    let ended = stage.value(
        "SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE active",
    )?;
    ensure!(ended == "1", "{ended} walsenders");
    stage.slot_free().await
}

/// The server gives the slot up under a frozen relay, which then wakes.
async fn invalidated(stage: &Stage) -> Result<()> {
    let relay = flowing(stage, &[]).await?;
    relay.program().pause();
    invalidate(stage).await?;
    let log = std::fs::read_to_string(stage.postgres.log_path())?;
    let killed = log.contains("to release replication slot \"outboxd\"");
    ensure!(killed, "the server did not end the walsender by itself");
    stage.insert(GAP)?;
    relay.program().resume();
    stops(stage, &relay, "slot-lost").await?;
    keep_size(stage, "-1")?;
    stage.value(DROP)?;
    remedy(stage, relay, "slot-missing").await
}

async fn invalidate(stage: &Stage) -> Result<()> {
    keep_size(stage, "1MB")?;
    wait::until("the slot is lost", Duration::from_secs(60), async || {
        stage.value("SELECT pg_logical_emit_message(false, 'churn', repeat('x', 1000000))")?;
        stage.value("SELECT pg_switch_wal()")?;
        stage.postgres.sql(DATABASE, "CHECKPOINT")?;
        Ok(stage.value("SELECT wal_status FROM pg_replication_slots")? == "lost")
    })
    .await?;
    Ok(())
}

/// The server gives the slot up while no relay runs; later ones are not.
pub(super) async fn lose_slot(stage: &Stage) -> Result<()> {
    invalidate(stage).await?;
    keep_size(stage, "-1")
}

fn keep_size(stage: &Stage, size: &str) -> Result<()> {
    let set = format!("ALTER SYSTEM SET max_slot_wal_keep_size = '{size}'");
    stage.postgres.sql(DATABASE, &set)?;
    stage.value("SELECT pg_reload_conf()")?;
    Ok(())
}

/// Does what the code's remedy says, once table and topics have been compared. The relay is stopped
/// meanwhile: when it looks again in mid-`init`, each of the two fences the other.
async fn remedy(stage: &Stage, relay: Relay, code: &str) -> Result<()> {
    relay.stop().await?;
    checkpoints::delete(stage).await?;
    stage.init(&[])?;
    let flags: &[&str] = match code {
        // `init` has made the topic again; the slot stays.
        "slot-ahead" => &["--adopt-slot"],
        _ => &[],
    };
    flowing(stage, flags).await?.stop().await?;
    Ok(())
}
