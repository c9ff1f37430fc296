//! The broker is down for a minute.

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
    name: "broker-outage",
    about: "broker stopped for 60 s under load: honest signals, flat memory, exact afterwards",
    group: Group::Short,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(run(figures)),
};

const OUTAGE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(10);
/// The outage may cost at most the windows that were gathered meanwhile.
const GROWTH_KIB_MAX: u64 = 24 * 1024;

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let relay = stage.relay(&[]).await?;
    let writers = Writers::start(&stage.url(), 4, Duration::from_millis(10));
    wait::until("events flow", Duration::from_secs(30), async || {
        Ok(relay.count("outboxd_events_published_total", "")? > 500.0)
    })
    .await?;
    let memory = relay.vm_hwm_kib()?;
    stage.kafka.stop()?;
    let looks = during(&relay).await?;
    let grown = relay.vm_hwm_kib()?.saturating_sub(memory);
    ensure!(grown < GROWTH_KIB_MAX, "memory grew by {grown} KiB");
    stage.kafka.start_again()?;
    let back = Instant::now();
    relay.ready().await?;
    figures.add("ready_after_ms", back.elapsed().as_millis());
    writers.stop().await?;
    caught_up(&stage).await.with_context(|| relay.log_text())?;
    wait::until(
        "backlog and lag are 0",
        Duration::from_secs(20),
        async || {
            let (backlog, lag) = signals(&relay)?;
            Ok(backlog == 0.0 && lag == 0.0)
        },
    )
    .await?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    figures.add("backlog_max", looks.last().map_or(0.0, |look| look.0));
    figures.add("memory_growth_kib", grown);
    Ok(())
}

fn signals(relay: &Relay) -> Result<(f64, f64)> {
    let backlog = relay
        .metric("event_outbox_backlog", "")?
        .context("no backlog")?;
    let lag = relay
        .metric("event_publish_lag_seconds", "")?
        .context("no lag")?;
    Ok((backlog, lag))
}

/// Backlog and lag grow from look to look, and /ready gives the reason.
async fn during(relay: &Relay) -> Result<Vec<(f64, f64)>> {
    let began = Instant::now();
    let mut looks: Vec<(f64, f64)> = Vec::new();
    while began.elapsed() < OUTAGE {
        // The outage lasts; this is its duration, not a wait for something.
        tokio::time::sleep(LOOK).await;
        let look = signals(relay)?;
        if let Some(before) = looks.last() {
            ensure!(
                look.0 > before.0,
                "backlog went from {} to {}",
                before.0,
                look.0
            );
            ensure!(
                look.1 > before.1,
                "lag went from {} to {}",
                before.1,
                look.1
            );
        }
        looks.push(look);
        let (status, body) = relay.get("/ready")?;
        ensure!(status == 503, "/ready answered {status} during the outage");
        ensure!(body.contains("kafka"), "no reason in {body}");
    }
    Ok(looks)
}
