//! A standby takes over when the active relay is killed or frozen, and the frozen one stands by
//! when it comes back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::postgres_restart::caught_up;
use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::wait;
use crate::writer::Writers;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "takeover",
    about: "a standby takes over from a killed and from a frozen relay, without a fencing war",
    group: Group::Short,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

const FROZEN_WITHIN: Duration = Duration::from_secs(15);
/// Other processes share the two cores; the promise is 2 s on a machine that is not overloaded.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let first = stage.relay(&[]).await?;
    let second = standby(&stage).await?;
    let writers = Writers::start(&stage.url(), 4, Duration::from_millis(4));
    flows(&first, Duration::from_secs(20)).await?;

    first.program().kill9();
    let took = flows(&second, KILLED_WITHIN).await?;
    figures.add("killed_ms", took.as_millis());

    let third = standby(&stage).await?;
    second.program().pause();
    let took = flows(&third, FROZEN_WITHIN).await?;
    figures.add("frozen_ms", took.as_millis());
    second.program().resume();
    wait::until(
        "the thawed one stands by",
        Duration::from_secs(30),
        async || Ok(role(&second)? == "standby"),
    )
    .await?;
    flows(&third, Duration::from_secs(10)).await?;

    writers.stop().await?;
    caught_up(&stage).await.with_context(|| third.log_text())?;
    second.stop().await?;
    third.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}

async fn standby(stage: &Stage) -> Result<Relay> {
    let relay = stage.launch(&[])?;
    wait::until("it stands by", Duration::from_secs(30), async || {
        Ok(role(&relay).is_ok_and(|role| role == "standby"))
    })
    .await?;
    let (status, _) = relay.get("/ready")?;
    ensure!(status == 200, "a standby answered {status}");
    ensure!(
        relay.metric("event_outbox_backlog", "")?.is_none(),
        "a standby shows a backlog"
    );
    Ok(relay)
}

fn role(relay: &Relay) -> Result<String> {
    let ready = relay.json("/ready")?;
    Ok(ready["role"].as_str().context("no role")?.to_owned())
}

/// How long it takes until this relay publishes something more.
async fn flows(relay: &Relay, within: Duration) -> Result<Duration> {
    let began = Instant::now();
    let before = relay.count("outboxd_events_published_total", "")?;
    wait::until("events flow", within, async || {
        Ok(relay.count("outboxd_events_published_total", "")? > before)
    })
    .await
    .with_context(|| relay.log_text())?;
    Ok(began.elapsed())
}
