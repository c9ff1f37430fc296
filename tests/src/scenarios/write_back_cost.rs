//! What writing states back costs: CPU of relay and server, and latency.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::load::{Load, latencies};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "write-back-cost",
    about: "CPU per million events with write_back all, failures, off; p99 latency at 5,000 events/s grows by at most 20 %",
    group: Group::Alone,
    within: Duration::from_secs(600),
    run: |figures| Box::pin(run(figures)),
};

const MODES: [&str; 3] = ["off", "failures", "all"];
/// Rounds alternate between the modes, so that what else the machine does hits all of them.
const ROUNDS: usize = 3;
const WRITERS: u32 = 5;
const ROWS: u32 = 10;
const PERIOD: Duration = Duration::from_millis(10);
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(12);
const P99_GROWTH_MAX: f64 = 1.2;

/// What one mode has shown, over all rounds.
#[derive(Default)]
struct Seen {
    p99_ms: Vec<f64>,
    events: f64,
    relay_cpu: f64,
    server_cpu: f64,
}

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let mut seen: [Seen; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (mode, seen) in MODES.iter().zip(&mut seen) {
            round(&stage, mode, seen).await.context(*mode)?;
        }
    }
    let mut p99 = [0.0; 3];
    for ((mode, seen), p99) in MODES.iter().zip(&mut seen).zip(&mut p99) {
        seen.p99_ms.sort_by(f64::total_cmp);
        *p99 = seen.p99_ms[ROUNDS / 2];
        let million = seen.events / 1e6;
        figures.add(&format!("{mode}_p99_ms"), format!("{:.1}", *p99));
        figures.add(
            &format!("{mode}_cpu_s_per_million"),
            format!(
                "relay:{:.1},server:{:.1}",
                seen.relay_cpu / million,
                seen.server_cpu / million
            ),
        );
    }
    let growth = p99[2] / p99[0];
    figures.add("p99_growth", format!("{growth:.2}"));
    ensure!(
        growth <= P99_GROWTH_MAX,
        "p99 grows from {:.1} to {:.1} ms",
        p99[0],
        p99[2]
    );
    Ok(())
}

async fn round(stage: &Stage, mode: &str, seen: &mut Seen) -> Result<()> {
    stage.postgres.sql(DATABASE, "TRUNCATE outbox")?;
    let relay = stage
        .relay_with(&[("OUTBOXD_TABLES_WRITE_BACK", mode)])
        .await?;
    let pid = relay.program().pid();
    let server = stage.postgres.pid().context("no server")?;
    let before = (
        testbed::cpu_seconds(pid)?,
        testbed::family_cpu_seconds(server)?,
    );
    let rows = stage.value("SELECT last_value FROM outbox_seq_seq")?;
    let rows: f64 = rows.parse()?;
    let load = Load::start(stage, WRITERS, ROWS, PERIOD).await?;
    let found = latencies(stage, WARM_UP, MEASURED).await?;
    load.stop().await?;
    stage.caught_up(&relay).await?;
    let after = (
        testbed::cpu_seconds(pid)?,
        testbed::family_cpu_seconds(server)?,
    );
    let written: f64 = stage
        .value("SELECT last_value FROM outbox_seq_seq")?
        .parse()?;
    let rate = found.len() as f64 / MEASURED.as_secs_f64();
    ensure!(
        rate > 4_500.0,
        "the writers only managed {rate:.0} events/s"
    );
    seen.p99_ms
        .push(found.value_at_quantile(0.99) as f64 / 1000.0);
    seen.events += written - rows;
    seen.relay_cpu += after.0 - before.0;
    seen.server_cpu += after.1 - before.1;
    relay.stop().await?;
    Ok(())
}
