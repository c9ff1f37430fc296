//! A relay of another database, pointed at the same Kafka by mistake, disturbs nobody.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::misconfiguration::run_says;
use super::postgres_restart::caught_up;
use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::writer::Writers;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "foreign-relay",
    about: "a relay of another database with the same pipeline name stops, and fences nobody",
    group: Group::Proof,
    within: Duration::from_secs(120),
    run: |figures| Box::pin(run(figures)),
};

/// A stopped relay looks again every 5 s: three times.
const LOOKS: Duration = Duration::from_secs(16);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let relay = stage.relay(&[]).await?;
    let writers = Writers::start(&stage.url(), 2, Duration::from_millis(20));

    let table = include_str!("../../../sql/outbox.sql");
    stage.postgres.sql("postgres", table)?;
    stage.postgres.sql(
        "postgres",
        "CREATE PUBLICATION outboxd FOR TABLE outbox WITH (publish = 'insert')",
    )?;
    let url = stage.postgres.superuser_url("postgres");
    let bootstrap = stage.bootstrap();
    let flags = ["--postgres", &url, "--kafka", &bootstrap, "--slot", "stray"].map(str::to_owned);
    let stray = Relay::launch(&flags, &[], stage.folder())?;
    run_says(&stray, "foreign-system", "stopped").await?;
    // The time in which it could do harm is the experiment.
    tokio::time::sleep(LOOKS).await;
    ensure!(
        relay.count("outboxd_sessions_total", "")? <= 1.0,
        "the rightful relay was disturbed:\n{}",
        relay.log_text()
    );
    writers.stop().await?;
    caught_up(&stage).await?;
    stray.stop().await?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}
