//! A relay that drains for long is alive.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "live-while-draining",
    about: "told to end while Kafka is silent, a relay is alive until it has published what it took in",
    group: Group::Alone,
    within: Duration::from_secs(200),
    run: |figures| Box::pin(run(figures)),
};

/// A loop that shows no sign of life for 30 s counts as hung.
const SILENT: Duration = Duration::from_secs(35);
const DRAINS_WITHIN: Duration = Duration::from_secs(90);
const EVENTS: u32 = 300;
const STEP: Duration = Duration::from_millis(200);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let env = [
        ("OUTBOXD_SHUTDOWN_TIMEOUT", "90s"),
        ("OUTBOXD_KAFKA_TRANSACTION_TIMEOUT", "120s"),
    ];
    let relay = stage.relay_with(&env).await?;
    stage.kafka.pause()?;
    stage.insert(EVENTS)?;
    let took = std::thread::scope(|scope| {
        let ending = scope.spawn(|| relay.terminate(DRAINS_WITHIN));
        let lived = lives(&relay);
        stage.kafka.resume()?;
        let ended = ending
            .join()
            .map_err(|_| anyhow!("waiting for the end panicked"))?;
        lived?;
        let (status, took) = ended?;
        ensure!(status.success(), "the relay ended with {status}");
        anyhow::Ok(took)
    })
    .with_context(|| relay.log_text())?;
    figures.add("drained_ms", took.as_millis());
    stage.relay(&[]).await?.stop().await?;
    oracle::require_exact(&stage).await?;
    Ok(())
}

/// While Kafka is silent.
fn lives(relay: &Relay) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < SILENT {
        let (status, body) = relay.get("/live")?;
        let seconds = began.elapsed().as_secs();
        ensure!(status == 200, "after {seconds} s: {body}");
        std::thread::sleep(STEP);
    }
    ensure!(
        relay.get("/status")?.1.contains("draining"),
        "it does not drain"
    );
    Ok(())
}
