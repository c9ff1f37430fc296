//! From insert to a `read_committed` consumer, at 1,000 events a second, beside a producer that has no database
//! to read from.

use std::time::Duration;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::load::{self, Bare, Load};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "latency",
    about: "insert to consumer at 1,000 events/s, exactly once: at most 3 times as late as with a bare transactional producer",
    group: Group::Alone,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(run(figures)),
};

const WRITERS: u32 = 4;
const PERIOD: Duration = Duration::from_millis(4);
const WARM_WITHIN: Duration = Duration::from_secs(120);
/// Each way, in turns.
const ROUNDS: u32 = 3;
const SETTLING: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(10);
/// Beside the transaction in Kafka there are one in Postgres, its decoding, and the checkpoint's record.
const RATIO_MAX: f64 = 3.0;

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().warm().start().await?;
    let relay = stage.relay(&[]).await?;
    let load = Load::start(&stage, WRITERS, 1, PERIOD).await?;
    let warm = stage.compiled(WARM_WITHIN).await?;
    load.stop().await?;
    let (mut relayed, mut bare) = (Way::new("")?, Way::new("bare_")?);
    for _ in 0..ROUNDS {
        let load = Load::start(&stage, WRITERS, 1, PERIOD).await?;
        relayed.measure(&stage).await?;
        load.stop().await?;
        let load = Bare::start(&stage, WRITERS, PERIOD)?;
        bare.measure(&stage).await?;
        load.stop().await?;
    }
    relay.stop().await?;
    figures.add("warm_s", warm.as_secs());
    relayed.tell(figures);
    bare.tell(figures);
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let ratio = relayed.ms(quantile) / bare.ms(quantile);
        figures.add(&format!("{name}_ratio"), format!("{ratio:.2}"));
        ensure!(ratio < RATIO_MAX, "{name} is {ratio:.2} times as late");
    }
    Ok(())
}

/// What was measured of one way, over all rounds.
struct Way {
    name: &'static str,
    latencies: Histogram<u64>,
}

impl Way {
    fn new(name: &'static str) -> Result<Self> {
        let latencies = load::histogram()?;
        Ok(Self { name, latencies })
    }

    async fn measure(&mut self, stage: &Stage) -> Result<()> {
        let latencies = load::latencies(stage, SETTLING, MEASURED).await?;
        let rate = latencies.len() as f64 / MEASURED.as_secs_f64();
        ensure!(rate > 900.0, "the writers only managed {rate:.0} events/s");
        Ok(self.latencies.add(latencies)?)
    }

    fn ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }

    fn tell(&self, figures: &mut Figures) {
        for (quantile, share) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)] {
            let name = format!("{}{quantile}", self.name);
            figures.add(&name, format!("{:.1}", self.ms(share)));
        }
    }
}
