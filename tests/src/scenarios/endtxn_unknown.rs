//! Answers and requests that get lost or come late on the way to Kafka, so that the relay can't
//! know what was done.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{Api, Proxy};

use super::postgres_restart::caught_up;
use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::wait;
use crate::writer::Writers;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "endtxn-unknown",
    about: "lost and late answers of Kafka, above all to commits: exactly once all the same",
    group: Group::Proof,
    within: Duration::from_secs(500),
    run: |figures| Box::pin(run(figures)),
};

/// The relay gives a commit up before the client library asks again, as it does by default; only
/// sooner.
const ENV: [(&str, &str); 4] = [
    ("CONCURRENCY", "2"),
    ("OUTBOXD_KAFKA_TRANSACTION_TIMEOUT", "8s"),
    ("OUTBOXD_KAFKA_PROPERTIES_SOCKET_TIMEOUT_MS", "8100"),
    ("OUTBOXD_RETRY_MAX_BACKOFF", "500ms"),
];
const STRIKES_WITHIN: Duration = Duration::from_secs(30);
const FLOWS_WITHIN: Duration = Duration::from_secs(60);

type Fault = fn(&Proxy, Api, u32);
const FAULTS: [(&str, Fault); 3] = [
    ("swallow", Proxy::swallow_responses),
    ("cut-after", Proxy::cut_after_request),
    ("cut-before", Proxy::cut_before_request),
];

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().proxied().start().await?;
    let writers = Writers::start(&stage.url(), 2, Duration::from_millis(25));
    let relay = stage.relay_with(&ENV).await?;
    for api in [Api::END_TXN, Api::PRODUCE, Api::ADD_PARTITIONS_TO_TXN] {
        for fault in FAULTS {
            lose(&stage, &relay, api, fault).await?;
        }
    }
    commit_comes_late(&stage, &relay).await?;
    let mut relay = relay;
    for (name, fault) in FAULTS {
        fault(stage.kafka_proxy()?, Api::INIT_PRODUCER_ID, 1);
        relay = succeed(&stage, relay).await.context(name)?;
        struck(stage.kafka_proxy()?, Api::INIT_PRODUCER_ID, 1).await?;
        stage.kafka_proxy()?.heal()?;
    }
    let relay = commit_outlives_relay(&stage, relay).await?;
    writers.stop().await?;
    caught_up(&stage).await.with_context(|| relay.log_text())?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    show(figures, stage.kafka_proxy()?)?;
    figures.add("rows", verdict.rows);
    Ok(())
}

/// Two in succession, so that what the first one led to is struck as well.
async fn lose(stage: &Stage, relay: &Relay, api: Api, (name, fault): (&str, Fault)) -> Result<()> {
    let proxy = stage.kafka_proxy()?;
    let before = proxy.disturbed(api);
    fault(proxy, api, 2);
    let lost = async {
        struck(proxy, api, before + 2).await?;
        flows(relay).await
    };
    lost.await.with_context(|| format!("{name} {api}"))
}

/// The relay gives a commit up, fences, and goes on; then the commit arrives.
async fn commit_comes_late(stage: &Stage, relay: &Relay) -> Result<()> {
    let proxy = stage.kafka_proxy()?;
    let sessions = relay.count("outboxd_sessions_total", "")?;
    proxy.hold_requests(Api::END_TXN, 1);
    wait::until("a new session", FLOWS_WITHIN, async || {
        Ok(relay.count("outboxd_sessions_total", "")? > sessions)
    })
    .await?;
    flows(relay).await.context("after giving a commit up")?;
    arrives_in_vain(proxy).await
}

/// The relay is killed while its commit is on the way; its successor fences; the commit arrives.
async fn commit_outlives_relay(stage: &Stage, relay: Relay) -> Result<Relay> {
    let proxy = stage.kafka_proxy()?;
    proxy.hold_requests(Api::END_TXN, 1);
    proxy.await_held(1, STRIKES_WITHIN)?;
    let successor = succeed(stage, relay).await?;
    arrives_in_vain(proxy).await?;
    flows(&successor).await?;
    Ok(successor)
}

/// Kills the relay; its successor publishes.
async fn succeed(stage: &Stage, relay: Relay) -> Result<Relay> {
    relay.program().kill9();
    let successor = stage.relay_with(&ENV).await?;
    flows(&successor).await.context("the successor")?;
    Ok(successor)
}

/// The held commit reaches the broker, which refuses it.
async fn arrives_in_vain(proxy: &Proxy) -> Result<()> {
    ensure!(proxy.held() == 1, "{} commits are held", proxy.held());
    let before = proxy.withheld_errors(Api::END_TXN).len();
    proxy.release_requests();
    wait::until("the late commit is answered", STRIKES_WITHIN, async || {
        Ok(proxy.withheld_errors(Api::END_TXN).len() > before)
    })
    .await?;
    let errors = proxy.withheld_errors(Api::END_TXN);
    let late = errors.get(before).context("no answer")?;
    ensure!(*late != 0, "a commit of a fenced producer succeeded");
    Ok(())
}

async fn struck(proxy: &Proxy, api: Api, times: u64) -> Result<()> {
    wait::until("the fault strikes", STRIKES_WITHIN, async || {
        Ok(proxy.disturbed(api) >= times)
    })
    .await
    .with_context(|| format!("{api}: {} of {times}", proxy.disturbed(api)))?;
    Ok(())
}

async fn flows(relay: &Relay) -> Result<()> {
    let published = || relay.count("outboxd_events_published_total", "");
    let before = published()?;
    wait::until("events flow", FLOWS_WITHIN, async || {
        Ok(published()? > before)
    })
    .await
    .with_context(|| relay.log_text())?;
    Ok(())
}

fn show(figures: &mut Figures, proxy: &Proxy) -> Result<()> {
    for api in [
        Api::END_TXN,
        Api::PRODUCE,
        Api::ADD_PARTITIONS_TO_TXN,
        Api::INIT_PRODUCER_ID,
    ] {
        figures.add(&format!("lost_{api}"), proxy.disturbed(api));
    }
    let errors = proxy.withheld_errors(Api::END_TXN);
    let committed = errors.iter().filter(|error| **error == 0).count();
    ensure!(committed > 0, "no commit succeeded unheard: {errors:?}");
    figures.add("committed_unheard", committed);
    figures.add("commit_errors", format!("{errors:?}").replace(' ', ""));
    Ok(())
}
