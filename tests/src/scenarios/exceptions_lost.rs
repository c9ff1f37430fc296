//! The checkpoint topic loses what it holds beside the checkpoint.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::stopped::stops;
use super::{checkpoints, feeds};
use crate::cluster;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "exceptions-lost",
    about: "a parked key deleted from the checkpoint topic stops the relay until a person accepts it",
    group: Group::Proof,
    within: Duration::from_secs(200),
    run: |figures| Box::pin(run(figures)),
};

const ENV: &[(&str, &str)] = &[
    ("OUTBOXD_TABLES_ON_DEAD_LETTER", "park-key"),
    ("RETRY_MAX", "0"),
];
const EXCEPTIONS: i32 = 1;

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    let relay = stage.relay_with(ENV).await?;
    insert(&stage, "compliance.gone")?;
    stage.caught_up(&relay).await?;
    ensure!(parked(&stage)? == 1, "nothing is parked");
    relay.stop().await?;

    insert(&stage, "transfers.settled")?;
    // Brokers delete nothing from a topic that is only compacted.
    checkpoints::configure(&stage, "cleanup.policy=[compact,delete]")?;
    cluster::delete_records(&stage.bootstrap(), checkpoints::CHECKPOINTS, EXCEPTIONS).await?;
    checkpoints::configure(&stage, "cleanup.policy=compact")?;
    let relay = stage.launch_with(&[], ENV)?;
    stops(&stage, &relay, "exceptions-lost").await?;
    let token = token(&relay.log_text())?;
    relay.stop().await?;

    let relay = stage.launch_with(&["--accept-exceptions", &token], ENV)?;
    relay.ready().await.with_context(|| relay.log_text())?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    // The state is recorded: the flag is not needed again.
    let relay = stage.relay_with(ENV).await?;
    insert(&stage, "transfers.settled")?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    let published = stage.value("SELECT count(*) FROM outbox WHERE state = 'SENT'")?;
    ensure!(published == "2", "{published} rows are SENT");
    figures.add("published", published);
    Ok(())
}

fn insert(stage: &Stage, event_type: &str) -> Result<()> {
    let sql = format!(
        "INSERT INTO outbox (event_type, transfer_id, payload) VALUES ('{event_type}', 'k', '{{}}')"
    );
    stage.postgres.sql(DATABASE, &sql)?;
    Ok(())
}

fn parked(stage: &Stage) -> Result<usize> {
    let stats = feeds::json(stage, &["dlq", "stats"])?;
    let keys = stats["parked_keys"].as_array().context("no keys")?;
    Ok(keys.len())
}

/// As the error names it.
fn token(log: &str) -> Result<String> {
    let (_, behind) = log
        .split_once("--accept-exceptions ")
        .context("no token in the log")?;
    Ok(behind.chars().take_while(char::is_ascii_hexdigit).collect())
}
