//! Connections that die without a word: no FIN, no RST, nothing comes through.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::{Direction, Proxy};

use super::keepalive_in_flight::walsender_other_than;
use super::postgres_restart::caught_up;
use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::wait;
use crate::writer::Writers;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "dead-peer",
    about: "Postgres, then Kafka, silent without FIN or RST: noticed, outlived, nothing lost",
    group: Group::Proof,
    within: Duration::from_secs(400),
    run: |figures| Box::pin(run(figures)),
};

/// 10 s of silence are the promise; the rest is for a busy machine.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);
const RECOVERED_WITHIN: Duration = Duration::from_secs(60);
/// Well beyond every timeout on both sides.
const SILENCE: Duration = Duration::from_secs(25);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().proxied().start().await?;
    let writers = Writers::start(&stage.url(), 4, Duration::from_millis(40));
    let relay = stage.relay(&[]).await?;
    for (name, proxy) in [
        ("postgres", stage.postgres_proxy()?),
        ("kafka", stage.kafka_proxy()?),
    ] {
        let noticed = falls_silent(&relay, proxy).await.context(name)?;
        figures.add(&format!("{name}_noticed_ms"), noticed.as_millis());
        let took = comes_back(&relay, proxy).await.context(name)?;
        figures.add(&format!("{name}_back_ms"), took.as_millis());
    }
    relay.stop().await?;
    let took = second_path(&stage).await.context("second path")?;
    figures.add("second_path_ms", took.as_millis());
    writers.stop().await?;
    stage.postgres_proxy()?.heal()?;
    let relay = stage.relay(&[]).await?;
    caught_up(&stage).await.with_context(|| relay.log_text())?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}

/// How long it takes until the relay says that it is not ready; it does not become so by itself.
async fn falls_silent(relay: &Relay, proxy: &Proxy) -> Result<Duration> {
    flows(relay).await?;
    let connections = proxy.connections();
    ensure!(connections > 0, "nothing goes through the proxy");
    let began = Instant::now();
    proxy.freeze(Direction::Both);
    let unready = async || Ok(relay.get("/ready")?.0 == 503);
    wait::until("not ready", NOTICED_WITHIN, unready).await?;
    let noticed = began.elapsed();
    while began.elapsed() < SILENCE {
        let (status, body) = relay.get("/ready")?;
        ensure!(status == 503, "ready in the silence: {body}");
        // The silence lasts; this waits for nothing.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(noticed)
}

async fn comes_back(relay: &Relay, proxy: &Proxy) -> Result<Duration> {
    let began = Instant::now();
    proxy.heal()?;
    relay.ready().await?;
    flows(relay).await?;
    Ok(began.elapsed())
}

/// The first way to the server dies and stays dead; the relay takes the second.
async fn second_path(stage: &Stage) -> Result<Duration> {
    let (dead, alive) = (stage.postgres_proxy()?.port(), stage.postgres.port());
    let host = stage.postgres.host();
    let hosts = format!("@{host}:{dead},{host}:{alive}/");
    let url = stage.url().replace(&format!("@{host}:{alive}/"), &hosts);
    let flags = ["--postgres".to_owned(), url, "--kafka".to_owned()];
    let flags = [&flags[..], &[stage.kafka.bootstrap()]].concat();
    let relay = Relay::launch(&flags, &[], stage.folder())?;
    relay.ready().await?;
    flows(&relay).await?;
    let before = walsender_other_than(stage, &[]).await?;
    ensure!(
        stage.postgres_proxy()?.connections() > 0,
        "not by the first way"
    );
    let began = Instant::now();
    stage.postgres_proxy()?.freeze(Direction::Both);
    walsender_other_than(stage, &[before]).await?;
    flows(&relay).await?;
    let took = began.elapsed();
    relay.stop().await?;
    Ok(took)
}

async fn flows(relay: &Relay) -> Result<()> {
    let published = || relay.count("outboxd_events_published_total", "");
    let before = published()?;
    wait::until("events flow", RECOVERED_WITHIN, async || {
        Ok(published()? > before)
    })
    .await
    .with_context(|| relay.log_text())?;
    Ok(())
}
