//! A fast shutdown of Postgres is never held up.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::StopMode;

use super::postgres_restart::caught_up;
use crate::oracle;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::wait;
use crate::writer::Writers;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "fast-stop",
    about: "pg_ctl stop -m fast returns within 5 s: relay idle, under load, broker down",
    group: Group::Short,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

const STOPS_WITHIN: Duration = Duration::from_secs(5);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let relay = stage.relay(&[]).await?;
    figures.add("idle_ms", stop(&stage)?.as_millis());

    relay.ready().await?;
    let writers = Writers::start(&stage.url(), 4, Duration::from_millis(1));
    wait::until("rows are written", Duration::from_secs(20), async || {
        Ok(writers.written() > 500)
    })
    .await?;
    figures.add("loaded_ms", stop(&stage)?.as_millis());

    relay.ready().await?;
    stage.kafka.stop()?;
    wait::until("the relay notices", Duration::from_secs(20), async || {
        Ok(relay.get("/ready")?.0 == 503)
    })
    .await?;
    figures.add("broker_down_ms", stop(&stage)?.as_millis());
    stage.kafka.start_again()?;
    writers.stop().await?;
    relay.ready().await?;
    caught_up(&stage).await.with_context(|| relay.log_text())?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}

fn stop(stage: &Stage) -> Result<Duration> {
    let took = stage.postgres.stop(StopMode::Fast)?;
    ensure!(took < STOPS_WITHIN, "the stop took {took:?}");
    stage.postgres.start_again()?;
    Ok(took)
}
