//! What a fault does. Each leaves a relay that publishes again, or none.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use testbed::{Api, Kafka, Proxy, StopMode};

use super::burst;
use super::fault::{Fault, Hindrance, Link};
use super::life::{Life, Lives, RECOVERED_WITHIN};
use crate::cluster;
use crate::stage::{Stage, TOPICS};
use crate::wait;

/// How long a disturbed connection stays so.
const HELD_MS: std::ops::Range<u64> = 300..4000;
/// Late enough for a transaction or a fencing to come in between.
const DELAY: Duration = Duration::from_millis(300);
/// A tenth of what the writers need.
const BYTES_PER_S: u64 = 20_000;
const STRUCK_WITHIN: Duration = Duration::from_secs(30);

/// The means of striking.
pub(super) struct Strike<'a> {
    pub stage: &'a Stage,
    pub lives: &'a mut Lives,
    pub random: &'a mut fastrand::Rng,
    /// How long an outage lasts.
    pub outage: Duration,
}

impl<'a> Strike<'a> {
    /// Strikes; the relay that lives on, if any.
    pub async fn run(&mut self, fault: Fault, relay: Life) -> Result<Option<Life>> {
        let survivor = match fault {
            Fault::RelayKill => {
                self.lives.end(relay)?;
                return Ok(None);
            }
            Fault::RelayFreeze => self.freeze(relay).await?,
            Fault::BrokerStop => self.broker(relay, |kafka| kafka.stop().map(drop)).await?,
            Fault::BrokerKill => self.broker(relay, Kafka::kill9).await?,
            Fault::PostgresStop => self.postgres(relay, StopMode::Fast).await?,
            Fault::PostgresImmediate => self.postgres(relay, StopMode::Immediate).await?,
            Fault::PostgresKill => {
                let postgres = Arc::clone(&self.stage.postgres);
                blocking(move || postgres.kill9().and_then(|()| postgres.start_again())).await?;
                relay
            }
            Fault::Network(link, hindrance) => self.network(relay, link, hindrance).await?,
            Fault::LostAnswer(api) => self.lost_answer(relay, api).await?,
            Fault::LateEnd => self.late_end(relay).await?,
            Fault::Outage => self.everything_away(relay).await?,
            Fault::LargeRows => self.large_rows(relay).await?,
            Fault::MorePartitions => {
                cluster::add_partitions(&self.stage.bootstrap(), &TOPICS).await?;
                relay
            }
        };
        survivor.flows().await?;
        Ok(Some(survivor))
    }

    async fn freeze(&mut self, relay: Life) -> Result<Life> {
        relay.program().pause();
        let successor = self.lives.begin(self.stage, self.random)?;
        successor.flows().await.context("the successor")?;
        relay.program().resume();
        wait::until("the thawed one stands by", RECOVERED_WITHIN, async || {
            let ready = relay.json("/ready");
            Ok(ready.is_ok_and(|ready| ready["role"] == "standby"))
        })
        .await
        .with_context(|| relay.log_text())?;
        successor.flows().await.context("with a zombie beside it")?;
        self.lives.end(relay)?;
        Ok(successor)
    }

    async fn broker(
        &mut self,
        relay: Life,
        down: fn(&Kafka) -> testbed::Result<()>,
    ) -> Result<Life> {
        let broker = self
            .random
            .choice(&self.stage.brokers)
            .context("no broker")?;
        let broker = Arc::clone(broker);
        blocking(move || down(&broker).and_then(|()| broker.start_again())).await?;
        Ok(relay)
    }

    async fn postgres(&mut self, relay: Life, mode: StopMode) -> Result<Life> {
        let postgres = Arc::clone(&self.stage.postgres);
        blocking(move || postgres.restart(mode)).await?;
        Ok(relay)
    }

    async fn network(&mut self, relay: Life, link: Link, hindrance: Hindrance) -> Result<Life> {
        for proxy in self.proxies(link) {
            match hindrance {
                Hindrance::Cut => proxy.cut()?,
                Hindrance::Frozen(direction) => proxy.freeze(direction),
                Hindrance::Delayed(direction) => proxy.delay(direction, DELAY),
                Hindrance::Throttled(direction) => proxy.throttle(direction, BYTES_PER_S),
            }
        }
        let relay = self.perhaps_killed_meanwhile(relay).await?;
        self.heal(link)?;
        Ok(relay)
    }

    /// Waits while a fault is on; every other relay is killed in the middle of it, and its
    /// successor starts under fire.
    async fn perhaps_killed_meanwhile(&mut self, relay: Life) -> Result<Life> {
        let half = Duration::from_millis(self.random.u64(HELD_MS) / 2);
        // The time is the experiment, not a wait for something.
        tokio::time::sleep(half).await;
        let relay = match self.random.bool() {
            true => self.succeed(relay)?,
            false => relay,
        };
        tokio::time::sleep(half).await;
        Ok(relay)
    }

    /// Kills the relay and starts another one.
    fn succeed(&mut self, relay: Life) -> Result<Life> {
        self.lives.end(relay)?;
        self.lives.begin(self.stage, self.random)
    }

    async fn lost_answer(&mut self, relay: Life, api: Api) -> Result<Life> {
        let counts = |proxies: &[&Proxy]| -> Vec<u64> {
            proxies.iter().map(|proxy| proxy.disturbed(api)).collect()
        };
        let brokers = self.proxies(Link::Kafka);
        let before = counts(&brokers);
        for proxy in &brokers {
            match self.random.bool() {
                true => proxy.swallow_responses(api, 1),
                false => proxy.cut_after_request(api, 1),
            }
        }
        // Producers are initialised at a start only.
        let relay = match api {
            Api::INIT_PRODUCER_ID => self.succeed(relay)?,
            _ => relay,
        };
        wait::until("an answer is lost", STRUCK_WITHIN, async || {
            Ok(counts(&brokers) != before)
        })
        .await
        .with_context(|| relay.log_text())?;
        // One answer is enough: each may cost the relay a transaction's timeout.
        for (proxy, struck) in brokers.iter().zip(before) {
            if proxy.disturbed(api) == struck {
                proxy.heal()?;
            }
        }
        let relay = match self.random.bool() {
            true => self.succeed(relay)?,
            false => relay,
        };
        // What was swallowed stays so: the client has to find out by itself.
        relay.flows().await?;
        self.heal(Link::Kafka)?;
        Ok(relay)
    }

    async fn late_end(&mut self, relay: Life) -> Result<Life> {
        self.each_broker(|proxy| proxy.hold_requests(Api::END_TXN, 1));
        wait::until("an end is held", STRUCK_WITHIN, async || {
            Ok(self
                .proxies(Link::Kafka)
                .iter()
                .any(|proxy| proxy.held() > 0))
        })
        .await
        .with_context(|| relay.log_text())?;
        // The successor's own ends are not to be held.
        let brokers = self.proxies(Link::Kafka);
        let mut idle = brokers.iter().filter(|proxy| proxy.held() == 0);
        idle.try_for_each(|proxy| proxy.heal())?;
        let successor = self.succeed(relay)?;
        successor.ready().await?;
        self.heal(Link::Kafka)?;
        Ok(successor)
    }

    async fn everything_away(&mut self, relay: Life) -> Result<Life> {
        let (postgres, brokers) = (Arc::clone(&self.stage.postgres), self.stage.brokers.clone());
        blocking(move || {
            brokers.iter().try_for_each(|b| b.stop().map(drop))?;
            postgres.stop(StopMode::Immediate).map(drop)
        })
        .await?;
        let relay = match self.random.bool() {
            true => self.succeed(relay)?,
            false => relay,
        };
        // The time is the experiment.
        tokio::time::sleep(self.outage).await;
        let (postgres, brokers) = (Arc::clone(&self.stage.postgres), self.stage.brokers.clone());
        blocking(move || start_together(&brokers).and_then(|()| postgres.start_again())).await?;
        Ok(relay)
    }

    async fn large_rows(&mut self, relay: Life) -> Result<Life> {
        let direction = testbed::Direction::ToServer;
        self.each_broker(|proxy| proxy.throttle(direction, burst::BYTES_PER_S));
        burst::write(self.stage).await?;
        let relay = self.perhaps_killed_meanwhile(relay).await?;
        self.heal(Link::Kafka)?;
        Ok(relay)
    }

    fn proxies(&self, link: Link) -> Vec<&'a Proxy> {
        match link {
            Link::Postgres => self.stage.postgres_proxy().into_iter().collect(),
            Link::Kafka => self
                .stage
                .brokers
                .iter()
                .filter_map(|b| b.proxy())
                .collect(),
        }
    }

    fn each_broker(&self, act: impl Fn(&Proxy)) {
        self.proxies(Link::Kafka).into_iter().for_each(act);
    }

    fn heal(&self, link: Link) -> Result<()> {
        Ok(self.proxies(link).into_iter().try_for_each(Proxy::heal)?)
    }
}

/// A controller needs a majority of the brokers, so none is ready before others start.
fn start_together(brokers: &[Arc<Kafka>]) -> testbed::Result<()> {
    std::thread::scope(|scope| {
        let start = |broker: &Arc<Kafka>| {
            let broker = Arc::clone(broker);
            scope.spawn(move || broker.start_again())
        };
        let starting: Vec<_> = brokers.iter().map(start).collect();
        let started = starting.into_iter().map(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        started.collect()
    })
}

async fn blocking(act: impl FnOnce() -> testbed::Result<()> + Send + 'static) -> Result<()> {
    Ok(tokio::task::spawn_blocking(act).await??)
}
