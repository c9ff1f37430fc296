//! TLS to Postgres is verified: with the right authority events flow, with a wrong one or a wrong
//! name nothing does.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::backlog::published;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "tls",
    about: "verify-full accepts the right authority and name only; SCRAM, Unix socket",
    group: Group::Short,
    within: Duration::from_secs(120),
    run: |figures| Box::pin(run(figures)),
};

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .postgres(testbed::PostgresBuilder::tls)
        .start()
        .await?;
    let ca = stage
        .postgres
        .ca_path()
        .context("no authority")?
        .display()
        .to_string();
    let base = stage.url().replace("127.0.0.1", "localhost");
    flows(
        &stage,
        &format!("{base}?sslmode=verify-full&sslrootcert={ca}"),
        1,
    )
    .await?;
    flows(
        &stage,
        &format!("{base}?sslmode=verify-ca&sslrootcert={ca}"),
        1,
    )
    .await?;
    flows(&stage, &format!("{base}?sslmode=require"), 1).await?;
    let folder = stage.postgres.socket_dir().display().to_string();
    let socket = format!(
        "postgres://postgres@/{DATABASE}?host={folder}&port={}",
        stage.postgres.port()
    );
    flows(&stage, &socket, 1).await?;
    figures.add("accepted", 4);
    // Without an authority of its own, the public ones are trusted, and none of them signed this.
    refused(&stage, &format!("{base}?sslmode=verify-full")).await?;
    figures.add("refused", 1);
    Ok(())
}

fn launch(stage: &Stage, url: &str) -> Result<Relay> {
    let flags = ["--postgres", url, "--kafka", &stage.bootstrap()].map(str::to_owned);
    Relay::launch(&flags, &[], stage.folder())
}

async fn flows(stage: &Stage, url: &str, events: u32) -> Result<()> {
    let relay = launch(stage, url)?;
    relay.ready().await.with_context(|| url.to_owned())?;
    let insert = "INSERT INTO outbox (event_type, payload) VALUES ('transfers.settled', '{}')";
    stage.postgres.sql(DATABASE, insert)?;
    published(&relay, f64::from(events), Duration::from_secs(20)).await?;
    relay.stop().await?;
    Ok(())
}

async fn refused(stage: &Stage, url: &str) -> Result<()> {
    let relay = launch(stage, url)?;
    wait::until(
        "the certificate is refused",
        Duration::from_secs(20),
        async || {
            let ready = relay.get("/ready");
            Ok(ready.is_ok_and(|(_, body)| body.contains("postgres-tls")))
        },
    )
    .await
    .with_context(|| relay.log_text())?;
    ensure!(relay.get("/ready")?.0 == 503);
    relay.stop().await?;
    Ok(())
}
