//! Postgres restarts, cleanly and not, under load.

use std::time::Duration;

use anyhow::{Context, Result};
use testbed::StopMode;

use crate::oracle;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::wait;
use crate::writer::Writers;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "postgres-restart",
    about: "Postgres restarted fast, immediate and by kill -9: nothing lost or doubled",
    group: Group::Short,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

async fn run(figures: &mut Figures) -> Result<()> {
    for version in [15, 18] {
        let verdict = with_version(version).await?;
        figures.add(&format!("rows_on_{version}"), verdict.rows);
    }
    Ok(())
}

async fn with_version(version: u32) -> Result<oracle::Verdict> {
    let stage = Stage::builder()
        .postgres(|p| p.version(version).durable())
        .start()
        .await?;
    let relay = stage.relay(&[]).await?;
    let writers = Writers::start(&stage.url(), 4, Duration::from_millis(2));
    for round in 0..3 {
        let before = writers.written();
        wait::until("rows are written", Duration::from_secs(30), async || {
            Ok(writers.written() > before + 300)
        })
        .await?;
        match round {
            0 => stage.postgres.restart(StopMode::Fast)?,
            1 => stage.postgres.restart(StopMode::Immediate)?,
            _ => {
                stage.postgres.kill9()?;
                stage.postgres.start_again()?;
            }
        }
        relay.ready().await?;
    }
    writers.stop().await?;
    caught_up(&stage).await.with_context(|| relay.log_text())?;
    relay.stop().await?;
    oracle::require_exact(&stage).await
}

/// Waits until everything written so far is confirmed.
pub(super) async fn caught_up(stage: &Stage) -> Result<()> {
    let end = stage.value("SELECT pg_current_wal_lsn()")?;
    let confirmed = format!("SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots");
    wait::until(
        "everything is confirmed",
        Duration::from_secs(60),
        async || Ok(stage.value(&confirmed)? == "t"),
    )
    .await?;
    Ok(())
}
