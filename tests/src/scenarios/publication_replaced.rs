//! A publication that was replaced leaves a hole in the stream, and is never taken for the old one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::backlog::published;
use super::misconfiguration::run_says;
use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "publication-replaced",
    about: "a publication or table dropped and put back stops the relay until a person accepts it",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

/// Rows that a replaced publication hides.
const HIDDEN: u64 = 5;
const PUBLISHED_WITHIN: Duration = Duration::from_secs(30);

/// How a publication is replaced so that it looks the same as before.
const REPLACEMENTS: [(&str, [&str; 2]); 3] = [
    (
        "publication made again",
        [
            "DROP PUBLICATION outboxd",
            "CREATE PUBLICATION outboxd FOR TABLE outbox WITH (publish = 'insert')",
        ],
    ),
    (
        "table taken out and put back",
        [
            "ALTER PUBLICATION outboxd DROP TABLE outbox",
            "ALTER PUBLICATION outboxd ADD TABLE outbox",
        ],
    ),
    (
        "inserts left out and taken in again",
        [
            "ALTER PUBLICATION outboxd SET (publish = 'delete')",
            "ALTER PUBLICATION outboxd SET (publish = 'insert')",
        ],
    ),
];

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    for (name, [remove, restore]) in REPLACEMENTS {
        replaced_while_away(&stage, remove, restore)
            .await
            .with_context(|| name.to_owned())?;
    }
    replaced_while_running(&stage)
        .await
        .context("replaced while running")?;
    // Each hole is as large as was made, so it was real, and nothing else is missing.
    let verdict = oracle::judge(&stage).await?;
    let hidden = HIDDEN * REPLACEMENTS.len() as u64;
    ensure!(
        verdict.lost == hidden && verdict.duplicated == 0 && verdict.misordered == 0,
        "{hidden} rows were hidden from the stream: {verdict}"
    );
    figures.add("replacements", REPLACEMENTS.len() + 1);
    figures.add("hidden", hidden);
    Ok(())
}

fn insert(stage: &Stage, rows: u64) -> Result<()> {
    let sql = format!(
        "INSERT INTO outbox (event_type, payload) SELECT 'ledger.posted', '{{}}' \
         FROM generate_series(1, {rows})"
    );
    stage.postgres.sql(DATABASE, &sql)?;
    Ok(())
}

async fn replaced_while_away(stage: &Stage, remove: &str, restore: &str) -> Result<()> {
    let relay = stage.relay(&[]).await?;
    insert(stage, 10)?;
    published(&relay, 10.0, PUBLISHED_WITHIN).await?;
    relay.stop().await?;
    stage.postgres.sql(DATABASE, remove)?;
    insert(stage, HIDDEN)?;
    stage.postgres.sql(DATABASE, restore)?;
    insert(stage, 7)?;
    let confirmed = "SELECT confirmed_flush_lsn FROM pg_replication_slots";
    let before = stage.value(confirmed)?;

    let relay = stage.launch(&[])?;
    run_says(&relay, "publication-changed", "stopped").await?;
    let stale = stage.launch(&["--accept-publication", "0123456789abcdef"])?;
    drop(relay);
    run_says(&stale, "publication-changed", "stopped").await?;
    ensure!(
        stage.value(confirmed)? == before,
        "a stopped relay confirmed something"
    );
    let relay = accept(stage, stale).await?;
    published(&relay, 7.0, PUBLISHED_WITHIN).await?;
    // Consent is recorded: the next start needs none.
    relay.stop().await?;
    stage.relay(&[]).await?.stop().await?;
    Ok(())
}

/// Faster than the relay looks.
async fn replaced_while_running(stage: &Stage) -> Result<()> {
    let relay = stage.relay(&[]).await?;
    let (_, [remove, restore]) = REPLACEMENTS[0];
    stage.postgres.sql(DATABASE, remove)?;
    stage.postgres.sql(DATABASE, restore)?;
    run_says(&relay, "publication-changed", "stopped").await?;
    accept(stage, relay).await?.stop().await?;
    Ok(())
}

/// Starts a relay in place of a stopped one, with the token that it asks for.
pub(super) async fn accept(stage: &Stage, stopped: Relay) -> Result<Relay> {
    let (_, said) = stopped.get("/ready")?;
    let token = said
        .split("--accept-publication ")
        .nth(1)
        .and_then(|rest| rest.get(..16))
        .with_context(|| format!("no token: {said}"))?;
    stopped.stop().await?;
    stage.relay(&["--accept-publication", token]).await
}
