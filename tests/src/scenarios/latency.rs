//! From insert to a `read_committed` consumer, at 1,000 events a second.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::load::{self, Load};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "latency",
    about: "insert to consumer at 1,000 events/s, exactly once: p50 < 15 ms, p99 < 50 ms",
    group: Group::Alone,
    within: Duration::from_secs(120),
    run: |figures| Box::pin(run(figures)),
};

const WRITERS: u32 = 4;
const PERIOD: Duration = Duration::from_millis(4);
const WARM_UP: Duration = Duration::from_secs(30);
const MEASURED: Duration = Duration::from_secs(30);
const P50_MAX_MS: f64 = 15.0;
const P99_MAX_MS: f64 = 50.0;

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().warm().start().await?;
    let relay = stage.relay(&[]).await?;
    let load = Load::start(&stage, WRITERS, 1, PERIOD).await?;
    let latencies = load::latencies(&stage, WARM_UP, MEASURED).await?;
    load.stop().await?;
    relay.stop().await?;
    let ms = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    let rate = latencies.len() as f64 / MEASURED.as_secs_f64();
    figures.add("events_per_s", format!("{rate:.0}"));
    for (name, quantile) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)] {
        figures.add(name, format!("{:.1}", ms(quantile)));
    }
    ensure!(rate > 900.0, "the writers only managed {rate:.0} events/s");
    ensure!(ms(0.5) < P50_MAX_MS, "p50 is {:.1} ms", ms(0.5));
    ensure!(ms(0.99) < P99_MAX_MS, "p99 is {:.1} ms", ms(0.99));
    Ok(())
}
