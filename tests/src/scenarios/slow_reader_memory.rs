//! Rows of 1 MiB that come faster than the broker takes them: memory follows the windows, not the
//! backlog.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::Kafka;

use super::backlog::published;
use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "slow-reader-memory",
    about: "300 rows of 1 MiB before a slow, then frozen broker: peak memory (VmHWM) under 256 MiB",
    group: Group::Proof,
    within: Duration::from_secs(400),
    run: |figures| Box::pin(run(figures)),
};

const ROWS: u32 = 300;
const ROW_BYTES: usize = 1 << 20;
const MEMORY_KIB_MAX: u64 = 256 * 1024;
/// Slower than the server sends, by far.
const BROKER_BYTES_PER_S: u64 = 4 << 20;
const SLOW_ROWS: f64 = 20.0;
const FROZEN: Duration = Duration::from_secs(15);
const PUBLISHED_WITHIN: Duration = Duration::from_secs(200);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .patient()
        .kafka(|k| k.proxied().setting("message.max.bytes", "4194304"))
        .start()
        .await?;
    let relay = launch(&stage)?;
    relay.ready().await?;
    let proxy = stage.kafka.proxy().context("no proxy")?;
    let idle = relay.vm_hwm_kib()?;
    proxy.throttle(testbed::Direction::Both, BROKER_BYTES_PER_S);
    write(&stage).await?;
    published(&relay, SLOW_ROWS, PUBLISHED_WITHIN).await?;
    freeze(&stage.kafka, &relay).await?;
    proxy.heal()?;
    published(&relay, f64::from(ROWS), PUBLISHED_WITHIN).await?;
    stage.caught_up(&relay).await?;
    let peak = relay.vm_hwm_kib()?;
    figures.add("idle_mib", idle / 1024);
    figures.add("peak_mib", peak / 1024);
    relay.stop().await?;
    ensure!(peak < MEMORY_KIB_MAX, "peak memory {peak} KiB");
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}

fn launch(stage: &Stage) -> Result<Relay> {
    let bootstrap = stage.kafka.proxied_bootstrap().context("no proxy")?;
    let flags = ["--postgres", &stage.url(), "--kafka", &bootstrap].map(str::to_owned);
    let env = [
        ("OUTBOXD_EVENT_MAX_BYTES", "2MiB"),
        ("OUTBOXD_KAFKA_PROPERTIES_MESSAGE_MAX_BYTES", "4194304"),
    ];
    Relay::launch(&flags, &env, stage.folder())
}

/// Half in transactions of their own, half in a single one.
async fn write(stage: &Stage) -> Result<()> {
    let mut client = stage.client().await?;
    let text: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(ROW_BYTES)
        .collect();
    let sql = "INSERT INTO outbox (event_type, transfer_id, payload) \
               VALUES ('transfers.settled', 'large', jsonb_build_object('text', $1::text))";
    for _ in 0..ROWS / 2 {
        client.execute(sql, &[&text]).await?;
    }
    let transaction = client.transaction().await?;
    for _ in ROWS / 2..ROWS {
        transaction.execute(sql, &[&text]).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// The broker stands still for a while, and the relay says so.
async fn freeze(kafka: &Kafka, relay: &Relay) -> Result<()> {
    let before = relay.count("outboxd_events_published_total", "")?;
    ensure!(
        before < f64::from(ROWS / 2),
        "{before} rows got through: it was not slow"
    );
    kafka.pause()?;
    // The length of the outage is the experiment, not a wait for something.
    tokio::time::sleep(FROZEN).await;
    let (status, body) = relay.get("/ready")?;
    kafka.resume()?;
    ensure!(
        status == 503,
        "/ready answered {status} before a frozen broker: {body}"
    );
    wait::until("events flow again", PUBLISHED_WITHIN, async || {
        Ok(relay.count("outboxd_events_published_total", "")? > before)
    })
    .await?;
    Ok(())
}
