//! The checkpoint topic is not what it was: deleted, emptied, or written to by others. Nothing may
//! be published twice because of it, and what can't be known must stop the relay.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::checkpoints;
use super::misconfiguration::{outboxd_output, run_says, text};
use super::stopped::{flowing, stops};
use crate::oracle;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "checkpoint-topic",
    about: "the checkpoint topic deleted, expired, or written to by others: stopped or exact",
    group: Group::Proof,
    within: Duration::from_secs(400),
    run: |figures| Box::pin(run(figures)),
};

/// Transactions, each of which takes two offsets: more than a start reads at first.
const ABORTED: u32 = 80;
/// Events that only the slot holds while the topic is disturbed.
const PENDING: u32 = 5;

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .patient()
        .kafka(|k| {
            k.setting("log.retention.check.interval.ms", "500")
                .setting("log.initial.task.delay.ms", "500")
        })
        .start()
        .await?;
    aborted(&stage).await.context("aborted records")?;
    foreign(&stage).await.context("foreign record")?;
    deleted_away(&stage).await.context("deleted while away")?;
    deleted_running(&stage)
        .await
        .context("deleted while running")?;
    expired(&stage).await.context("expired")?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}

/// Behind the newest checkpoint lies nothing but what was aborted, and markers.
async fn aborted(stage: &Stage) -> Result<()> {
    flowing(stage, &[]).await?.stop().await?;
    let (_, before) = checkpoints::offsets(stage)?;
    checkpoints::abort(stage, ABORTED, b"{\"format\": 1}")?;
    let (_, after) = checkpoints::offsets(stage)?;
    ensure!(
        after >= before + i64::from(2 * ABORTED),
        "only {before} to {after}"
    );
    stage.insert(PENDING)?;
    flowing(stage, &[]).await?.stop().await?;
    Ok(())
}

/// Somebody else writes to the topic: under another key that does no harm. Under the relay's own, the
/// last checkpoint written again puts it right.
async fn foreign(stage: &Stage) -> Result<()> {
    flowing(stage, &[]).await?.stop().await?;
    checkpoints::write(stage, "somebody-else", b"not a checkpoint")?;
    flowing(stage, &[]).await?.stop().await?;
    let mut newest = checkpoints::committed(stage)?;
    let checkpoint = newest.remove("checkpoint").context("no checkpoint")?;
    checkpoints::write(stage, "checkpoint", b"not a checkpoint")?;
    stage.insert(PENDING)?;
    let relay = stage.launch(&[])?;
    stops(stage, &relay, "checkpoint-unreadable").await?;
    checkpoints::write(stage, "checkpoint", &checkpoint)?;
    relay.ready().await.context("it does not go on by itself")?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    Ok(())
}

/// Gone, and then there again but empty: the slot alone does not say what was published.
async fn deleted_away(stage: &Stage) -> Result<()> {
    flowing(stage, &[]).await?.stop().await?;
    stage.insert(PENDING)?;
    checkpoints::delete(stage).await?;
    let relay = stage.launch(&[])?;
    stops(stage, &relay, "topic-missing").await?;
    stage.init(&[])?;
    relay.stop().await?;
    emptied(stage).await
}

/// The topic is empty. The relay was stopped when everything was confirmed, so the slot may be
/// adopted.
async fn emptied(stage: &Stage) -> Result<()> {
    let known = checkpoints::committed(stage)?;
    ensure!(!known.contains_key("checkpoint"), "not empty");
    let relay = stage.launch(&[])?;
    stops(stage, &relay, "slot-without-record").await?;
    relay.stop().await?;
    flowing(stage, &["--adopt-slot"]).await?.stop().await?;
    Ok(())
}

/// Under a relay that has confirmed everything; then events come.
async fn deleted_running(stage: &Stage) -> Result<()> {
    let relay = flowing(stage, &[]).await?;
    checkpoints::delete(stage).await?;
    stage.insert(PENDING)?;
    stops(stage, &relay, "topic-missing").await?;
    stage.init(&[])?;
    run_says(&relay, "slot-without-record", "stopped").await?;
    relay.stop().await?;
    emptied(stage).await
}

/// The policy is changed, and the checkpoints are deleted with age.
async fn expired(stage: &Stage) -> Result<()> {
    flowing(stage, &[]).await?.stop().await?;
    stage.insert(PENDING)?;
    checkpoints::configure(
        stage,
        "cleanup.policy=delete,retention.ms=1000,segment.ms=1000",
    )?;
    let mut args = vec!["doctor".to_owned()];
    args.extend(stage.flags());
    let doctor = outboxd_output(&args)?;
    let said = text(&doctor);
    ensure!(
        !doctor.status.success() && said.contains("cleanup.policy"),
        "{said}"
    );
    wait::until(
        "the records are gone",
        Duration::from_secs(60),
        async || {
            let (first, next) = checkpoints::offsets(stage)?;
            Ok(first == next)
        },
    )
    .await?;
    checkpoints::configure(stage, "cleanup.policy=compact")?;
    emptied(stage).await
}
