//! A relay that is cut off from Kafka alone, with a standby beside it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::Direction;

use super::takeover::{Scene, flows, stands_by};
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::wait;

pub(super) const YIELD: Scenario = Scenario {
    name: "yield-to-standby",
    about: "a relay that is cut off from Kafka leaves the slot to a standby that is not",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(yields(figures)),
};

pub(super) const STAY: Scenario = Scenario {
    name: "no-yield",
    about: "with Kafka out of reach for both, the slot is not handed to and fro",
    group: Group::Alone,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(stays(figures)),
};

/// 12 s until it yields, and a machine that does other things, too.
const YIELDS_WITHIN: Duration = Duration::from_secs(40);
const WITHIN: Duration = Duration::from_secs(60);
const OUTAGE: Duration = Duration::from_secs(40);
const YIELDS: &str = "giving the slot up";

async fn yields(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().kafka(|k| k.proxied()).start().await?;
    let proxy = stage.kafka_proxy()?;
    // To Postgres directly, to Kafka through the proxy.
    let cut_off = Relay::launch(&stage.relay_flags(), &[], stage.folder())?;
    cut_off.ready().await?;
    let able = Relay::launch(&stage.flags(), &[], stage.folder())?;
    stands_by(&able).await?;
    reports(&stage, "outboxd standby kafka-ok %", 1).await?;
    let scene = Scene::begin(&stage)?;
    flows(&cut_off).await?;

    let fault = scene.strike(|| {
        proxy.freeze(Direction::Both);
        Ok(())
    })?;
    let took = scene.downtime(&fault, &able, YIELDS_WITHIN).await;
    let took = took.with_context(|| cut_off.log_text())?;
    figures.add("yielded_ms", took.as_millis());
    ensure!(cut_off.log_text().contains(YIELDS), "it did not yield");
    let ready = cut_off.get("/ready")?;
    let is_of_no_use = ready.0 == 503 && ready.1.contains("kafka could not be used");
    ensure!(is_of_no_use && ready.1.contains("standby"), "{ready:?}");
    reports(&stage, "outboxd standby kafka-trouble %", 1).await?;
    flows(&able).await?;

    // Nobody else is left, so it takes the slot, Kafka or not.
    able.program().kill9();
    wait::until("it takes the slot", WITHIN, async || {
        let sql = "SELECT count(*) FROM pg_replication_slots WHERE active";
        Ok(stage.value(sql)? == "1")
    })
    .await
    .with_context(|| cut_off.log_text())?;
    proxy.heal()?;
    wait::until("it is ready", WITHIN, async || {
        Ok(cut_off.get("/ready")?.0 == 200)
    })
    .await
    .with_context(|| cut_off.log_text())?;
    flows(&cut_off).await?;
    scene.end(vec![cut_off], figures).await.map(drop)
}

/// Waits until so many sessions go by such a name.
async fn reports(stage: &Stage, like: &str, count: u32) -> Result<()> {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '{like}'");
    wait::until(like, WITHIN, async || {
        Ok(stage.value(&sql)? == count.to_string())
    })
    .await?;
    Ok(())
}

async fn stays(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let first = stage.relay(&[]).await?;
    let second = stage.launch(&[])?;
    stands_by(&second).await?;
    let scene = Scene::begin(&stage)?;
    flows(&first).await?;
    let fault = scene.strike(|| Ok(stage.kafka.stop().map(drop)?))?;
    reports(&stage, "outboxd standby kafka-trouble %", 1).await?;
    tokio::time::sleep_until((fault.at + OUTAGE).into()).await;
    stage.kafka.start_again()?;
    wait::until("one is active, one stands by", WITHIN, async || {
        let mut roles = Vec::new();
        for relay in [&first, &second] {
            let (status, body) = relay.get("/ready")?;
            let active = body.contains("\"role\":\"active\"");
            roles.push((status, active));
        }
        roles.sort_unstable();
        Ok(roles == [(200, false), (200, true)])
    })
    .await
    .with_context(|| first.log_text() + &second.log_text())?;
    for relay in [&first, &second] {
        let log = relay.log_text();
        ensure!(!log.contains(YIELDS), "it yielded to nobody:\n{log}");
    }
    scene.end(vec![first, second], figures).await.map(drop)
}
