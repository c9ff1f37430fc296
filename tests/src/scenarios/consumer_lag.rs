//! The consumer library's lag tells the truth.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use inbox::{Event, Failure, Handler, Handlers, Transaction};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use crate::consumers::{self, Running};
use crate::exposition::{self, Exposer};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "consumer-lag",
    about: "event_consumer_lag_seconds follows a consumer that stands, second by second, grows while the broker is silent, and returns to exactly 0 behind transaction markers",
    group: Group::Short,
    within: Duration::from_secs(150),
    run: |figures| Box::pin(run(figures)),
};

const TOPIC: &str = "transfers.settled";
const WITHIN: Duration = Duration::from_secs(40);
const SAMPLES: u32 = 8;
/// A loaded machine samples late by as much; both clocks are the same.
const DEVIATION_MAX_S: f64 = 0.5;
const EVENTS: u32 = 50;

/// Stands until it is told to go on.
struct Gate(Arc<Semaphore>);

impl Handler<serde_json::Value> for Gate {
    async fn handle(
        &self,
        _: Event<serde_json::Value>,
        _: &Transaction<'_>,
    ) -> Result<(), Failure> {
        self.0.acquire().await?.forget();
        Ok(())
    }
}

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    consumers::prepare(&stage, "ledger").await?;
    let relay = stage.relay(&[]).await?;
    let gate = Arc::new(Semaphore::new(0));
    let handlers = Handlers::new().on(TOPIC, Gate(Arc::clone(&gate)));
    let mut registry = Registry::default();
    let builder = consumers::consumer(&stage, "ledger", &[TOPIC], handlers)?;
    let running = Running::start(builder.metrics(&mut registry))?;
    let is_zero = async || Ok(lag(&registry)? == Some(0.0));
    wait::until("an empty topic has no lag", WITHIN, is_zero).await?;

    stage.insert(EVENTS)?;
    let deviation = follow(&registry).await?;
    figures.add("deviation_max_s", format!("{deviation:.3}"));
    ensure!(
        deviation <= DEVIATION_MAX_S,
        "the metric is off by {deviation:.3} s"
    );

    gate.add_permits(EVENTS as usize);
    let zero = wait::until("lag is exactly 0 again", WITHIN, is_zero).await?;
    figures.add("zero_after_ms", zero.as_millis());
    let claimed = stage.value("SELECT count(*) FROM inbox")?;
    ensure!(
        claimed == EVENTS.to_string(),
        "lag 0, but {claimed} events handled"
    );
    exposition::check(&exposed(&registry)?, Exposer::Consumer)?;
    // It stays there, long after the last event: each partition ends with a marker.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ensure!(
            lag(&registry)? == Some(0.0),
            "lag {:?} with nothing to do",
            lag(&registry)?
        );
    }

    stage.kafka.pause()?;
    let grown = async || Ok(lag(&registry)?.is_some_and(|lag| lag > 6.0));
    wait::until("lag grows while the broker is silent", WITHIN, grown).await?;
    stage.kafka.resume()?;
    wait::until("lag is 0 when it answers again", WITHIN, is_zero).await?;
    running.stop().await?;
    relay.stop().await?;
    Ok(())
}

/// How far the metric's growth is from the clock's, at most, while the consumer stands.
async fn follow(registry: &Registry) -> Result<f64> {
    let stands = async || Ok(lag(registry)?.is_some_and(|lag| lag > 1.0));
    wait::until("lag grows", WITHIN, stands).await?;
    let (began, first) = (Instant::now(), lag(registry)?.context("no lag")?);
    let mut deviation: f64 = 0.0;
    for _ in 0..SAMPLES {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = lag(registry)?.context("no lag")?;
        let expected = first + began.elapsed().as_secs_f64();
        deviation = deviation.max((now - expected).abs());
    }
    Ok(deviation)
}

fn exposed(registry: &Registry) -> Result<String> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(text)
}

/// The metric, as it is scraped.
fn lag(registry: &Registry) -> Result<Option<f64>> {
    let text = exposed(registry)?;
    let name = format!("event_consumer_lag_seconds{{service=\"ledger\",topic=\"{TOPIC}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value
        .map(|value| value.parse().context("not a number"))
        .transpose()
}
