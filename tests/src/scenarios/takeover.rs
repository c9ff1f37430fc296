//! A standby takes over when the active relay is killed, frozen or cut off, and the old one stands
//! by when it comes back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{Direction, Program, Proxy};

use super::postgres_restart::caught_up;
use crate::downtime::{Consumer, Fault};
use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::wait;
use crate::writer::Writers;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "takeover",
    about: "events flow again 20, 15 and 2 s after the active relay is cut off, frozen and killed",
    group: Group::Alone,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

pub(super) const SHARED: Scenario = Scenario {
    name: "takeover-shared",
    about: "as takeover, frozen and killed, on a machine that does other things, too",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(shared(figures)),
};

/// What is promised, from the fault to the first new event at a consumer.
const CUT_OFF_WITHIN: Duration = Duration::from_secs(20);
const FROZEN_WITHIN: Duration = Duration::from_secs(15);
const KILLED_WITHIN: Duration = Duration::from_secs(2);
/// With other scenarios on the same two cores.
const SHARED_ALLOWANCE: Duration = Duration::from_secs(10);
/// What a lag may be too high by: the slot is looked at now and then, and confirmed about once a
/// second.
const LAG_ALLOWANCE: Duration = Duration::from_secs(4);
const STANDS_BY_WITHIN: Duration = Duration::from_secs(40);
const FLOWS_WITHIN: Duration = Duration::from_secs(40);
const EVENTS_PER_S: f64 = 1000.0;
/// Four writers with this pause write more than that.
const PAUSE: Duration = Duration::from_millis(25);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().proxied().start().await?;
    let first = stage.relay(&[]).await?;
    // Past the proxies.
    let second = Relay::launch(&stage.flags(), &[], stage.folder())?;
    stands_by(&second).await?;
    let scene = Scene::begin(&stage)?;
    flows(&first).await?;

    let proxies = [stage.postgres_proxy()?, stage.kafka_proxy()?];
    let fault = scene.strike(|| {
        proxies
            .iter()
            .for_each(|proxy| proxy.freeze(Direction::Both));
        Ok(())
    })?;
    let took = scene.downtime(&fault, &second, CUT_OFF_WITHIN).await?;
    figures.add("cut_off_ms", took.as_millis());
    for proxy in proxies {
        Proxy::heal(proxy)?;
    }
    stands_by(&first).await.context("after the cut")?;

    frozen(&scene, &second, &first, FROZEN_WITHIN, figures).await?;
    killed(&scene, &first, &second, KILLED_WITHIN, figures).await?;
    let per_second = scene.end(vec![second], figures).await?;
    ensure!(per_second > EVENTS_PER_S, "only {per_second} events/s");
    Ok(())
}

async fn shared(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let first = stage.relay(&[]).await?;
    let second = stage.launch(&[])?;
    stands_by(&second).await?;
    let scene = Scene::begin(&stage)?;
    let within = FROZEN_WITHIN + SHARED_ALLOWANCE;
    frozen(&scene, &first, &second, within, figures).await?;
    let within = KILLED_WITHIN + SHARED_ALLOWANCE;
    killed(&scene, &second, &first, within, figures).await?;
    scene.end(vec![first], figures).await.map(drop)
}

/// How long it takes until events flow again.
async fn struck(
    scene: &Scene<'_>,
    active: &Relay,
    blow: fn(&Program),
    standby: &Relay,
    within: Duration,
) -> Result<Duration> {
    flows(active).await?;
    knows_of_the_flow(standby).await?;
    let fault = scene.strike(|| {
        blow(active.program());
        Ok(())
    })?;
    scene.downtime(&fault, standby, within).await
}

/// The one before may have left a backlog, which the lag of whoever takes over would tell of.
async fn knows_of_the_flow(standby: &Relay) -> Result<()> {
    wait::until("the slot is seen to follow", FLOWS_WITHIN, async || {
        let waiting = standby.metric("outboxd_slot_unconfirmed_seconds", "")?;
        Ok(waiting.is_some_and(|seconds| seconds < 1.0))
    })
    .await
    .with_context(|| standby.log_text())?;
    Ok(())
}

/// The frozen one comes back once the other one has taken over.
async fn frozen(
    scene: &Scene<'_>,
    active: &Relay,
    standby: &Relay,
    within: Duration,
    figures: &mut Figures,
) -> Result<()> {
    let took = struck(scene, active, Program::pause, standby, within).await?;
    figures.add("frozen_ms", took.as_millis());
    active.program().resume();
    stands_by(active).await.context("after the thaw")
}

/// Another one is started in its place, once the other one has taken over.
async fn killed(
    scene: &Scene<'_>,
    active: &Relay,
    standby: &Relay,
    within: Duration,
    figures: &mut Figures,
) -> Result<()> {
    let took = struck(scene, active, Program::kill9, standby, within).await?;
    figures.add("killed_ms", took.as_millis());
    let next = scene.stage.launch(&[])?;
    stands_by(&next).await?;
    flows(standby).await?;
    next.stop().await?;
    Ok(())
}

/// Writers and a consumer.
pub(super) struct Scene<'a> {
    stage: &'a Stage,
    writers: Writers,
    began: std::time::Instant,
    consumer: Consumer,
}

impl<'a> Scene<'a> {
    pub(super) fn begin(stage: &'a Stage) -> Result<Self> {
        Ok(Self {
            stage,
            consumer: Consumer::start(stage)?,
            writers: Writers::start(&stage.url(), 4, PAUSE),
            began: std::time::Instant::now(),
        })
    }

    pub(super) fn strike(&self, fault: impl FnOnce() -> Result<()>) -> Result<Fault> {
        self.consumer.strike(self.stage, fault)
    }

    /// As long as it is a standby, the one that takes over says nothing of lag and backlog, and
    /// then nothing that was before the fault.
    pub(super) async fn downtime(
        &self,
        fault: &Fault,
        standby: &Relay,
        within: Duration,
    ) -> Result<Duration> {
        let lag_is_true = || {
            let role = role(standby)?;
            let lag = standby.metric("event_publish_lag_seconds", "")?;
            let most = (fault.at.elapsed() + LAG_ALLOWANCE).as_secs_f64();
            if let Some(lag) = lag {
                ensure!(
                    lag < most,
                    "{role}: a lag of {lag} s, {most} s after the fault"
                );
            }
            Ok(())
        };
        self.consumer
            .downtime(fault, within, lag_is_true)
            .await
            .with_context(|| standby.log_text())
    }

    /// Nothing lost, nothing doubled; how many events a second there were.
    pub(super) async fn end(self, relays: Vec<Relay>, figures: &mut Figures) -> Result<f64> {
        let per_second = self.writers.written() as f64 / self.began.elapsed().as_secs_f64();
        self.writers.stop().await?;
        caught_up(self.stage)
            .await
            .with_context(|| relays.iter().map(Relay::log_text).collect::<String>())?;
        for relay in relays {
            relay.stop().await?;
        }
        self.consumer.stop()?;
        let verdict = oracle::require_exact(self.stage).await?;
        figures.add("rows", verdict.rows);
        figures.add("rows_per_s", per_second as u64);
        Ok(per_second)
    }
}

/// It is ready as a standby, and leaves lag and backlog to the active one.
pub(super) async fn stands_by(relay: &Relay) -> Result<()> {
    wait::until("it stands by", STANDS_BY_WITHIN, async || {
        let ready = relay.get("/ready").is_ok_and(|(status, _)| status == 200);
        Ok(ready && role(relay).is_ok_and(|role| role == "standby"))
    })
    .await
    .with_context(|| relay.log_text())?;
    for name in ["event_outbox_backlog", "event_publish_lag_seconds"] {
        let figure = relay.metric(name, "")?;
        ensure!(figure.is_none(), "a standby shows {name}");
    }
    Ok(())
}

pub(super) fn role(relay: &Relay) -> Result<String> {
    let ready = relay.json("/ready")?;
    Ok(ready["role"].as_str().context("no role")?.to_owned())
}

/// This relay publishes, has nothing left from an earlier fault, and says so.
pub(super) async fn flows(relay: &Relay) -> Result<()> {
    let published = || relay.count("outboxd_events_published_total", "");
    let before = published()?;
    wait::until("events flow", FLOWS_WITHIN, async || {
        let ready = relay.get("/ready")?.0 == 200;
        let lag = relay.metric("event_publish_lag_seconds", "")?;
        let fresh = lag.is_some_and(|lag| lag < 1.0);
        Ok(ready && fresh && role(relay)? == "active" && published()? > before)
    })
    .await
    .with_context(|| relay.log_text())?;
    Ok(())
}
