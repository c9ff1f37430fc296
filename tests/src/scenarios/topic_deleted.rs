//! A topic that was deleted is missed, and not made again by accident.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::misconfiguration::run_says;
use crate::cluster;
use crate::oracle;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "topic-deleted",
    about: "a deleted topic is missed even where brokers create topics by themselves",
    group: Group::Proof,
    within: Duration::from_secs(120),
    run: |figures| Box::pin(run(figures)),
};

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .kafka(|kafka| kafka.setting("auto.create.topics.enable", "true"))
        .start()
        .await?;
    let halting = [("OUTBOXD_TABLES_ON_DEAD_LETTER", "halt")];
    let relay = stage.relay_with(&halting).await?;
    let gone = TOPICS[3];
    cluster::delete_topic(&stage.bootstrap(), gone).await?;
    let insert = format!("INSERT INTO outbox (event_type, payload) VALUES ('{gone}', '{{}}')");
    stage.postgres.sql(DATABASE, &insert)?;
    run_says(&relay, "topic-missing", "stopped").await?;
    let known = cluster::topics(&stage.bootstrap())?;
    ensure!(
        !known.iter().any(|topic| topic == gone),
        "made again: {known:?}"
    );
    stage.init(&[])?;
    relay.ready().await.context("it does not go on by itself")?;
    super::postgres_restart::caught_up(&stage).await?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}
