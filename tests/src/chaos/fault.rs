//! What is done to relay and servers, and when.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testbed::StopMode;

use crate::relay::Relay;
use crate::stage::Stage;
use crate::wait;

/// Start-up takes a little less.
const START_MS_MAX: u64 = 900;
const READY_MS_MAX: u64 = 1500;
const RECOVERED_WITHIN: Duration = Duration::from_secs(60);

/// A fault. A relay that a fault leaves alive has to publish again, and is killed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to the relay.
    RelayKill,
    /// SIGSTOP to the relay until another one has taken over; then it comes back as a zombie.
    RelayFreeze,
    /// SIGKILL to the broker, which is started again.
    BrokerKill,
    /// `pg_ctl stop -m immediate`, and a start.
    PostgresImmediate,
    /// SIGKILL to all processes of the server, and a start.
    PostgresKill,
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "relay-kill" => Self::RelayKill,
            "relay-freeze" => Self::RelayFreeze,
            "broker-kill" => Self::BrokerKill,
            "postgres-immediate" => Self::PostgresImmediate,
            "postgres-kill" => Self::PostgresKill,
            _ => bail!(
                "no fault is named {name:?}: relay-kill, relay-freeze, broker-kill, \
                 postgres-immediate, postgres-kill"
            ),
        })
    }
}

impl Fault {
    /// Strikes; none of the relays that took part lives on.
    pub(super) async fn strike(
        self,
        stage: &Stage,
        relay: &Relay,
        launch: impl Fn() -> Result<Relay>,
    ) -> Result<()> {
        match self {
            Self::RelayKill => {}
            Self::RelayFreeze => freeze(relay, &launch()?).await?,
            Self::BrokerKill => {
                let kafka = Arc::clone(&stage.kafka);
                blocking(move || kafka.kill9().and_then(|()| kafka.start_again())).await?;
                flows(relay).await?;
            }
            Self::PostgresImmediate => {
                let postgres = Arc::clone(&stage.postgres);
                blocking(move || postgres.restart(StopMode::Immediate)).await?;
                flows(relay).await?;
            }
            Self::PostgresKill => {
                let postgres = Arc::clone(&stage.postgres);
                blocking(move || postgres.kill9().and_then(|()| postgres.start_again())).await?;
                flows(relay).await?;
            }
        }
        relay.program().kill9();
        Ok(())
    }
}

async fn freeze(relay: &Relay, successor: &Relay) -> Result<()> {
    relay.program().pause();
    flows(successor).await.context("the successor")?;
    relay.program().resume();
    wait::until("the thawed one stands by", RECOVERED_WITHIN, async || {
        let ready = relay.json("/ready");
        Ok(ready.is_ok_and(|ready| ready["role"] == "standby"))
    })
    .await
    .with_context(|| relay.log_text())?;
    flows(successor)
        .await
        .context("the successor, with a zombie beside it")?;
    // The slot goes back and forth: neither may live on.
    successor.program().kill9();
    Ok(())
}

/// The relay publishes, or does so again.
async fn flows(relay: &Relay) -> Result<()> {
    relay.ready().await?;
    let before = relay.count("outboxd_events_published_total", "")?;
    let more = wait::until("events flow", RECOVERED_WITHIN, async || {
        Ok(relay.count("outboxd_events_published_total", "")? > before)
    });
    more.await.map(drop).with_context(|| relay.log_text())
}

async fn blocking(act: impl FnOnce() -> testbed::Result<()> + Send + 'static) -> Result<()> {
    Ok(tokio::task::spawn_blocking(act).await??)
}

/// When a fault strikes. Half of them come during start-up: connecting, fencing, catching up.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    AfterStart(Duration),
    AfterReady(Duration),
}

impl Moment {
    pub fn choose(random: &mut fastrand::Rng) -> Self {
        match random.bool() {
            true => Self::AfterStart(Duration::from_millis(random.u64(0..START_MS_MAX))),
            false => Self::AfterReady(Duration::from_millis(random.u64(0..READY_MS_MAX))),
        }
    }
}
