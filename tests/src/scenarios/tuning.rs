//! Batch size, concurrency and backoff each change what they should, read from /metrics.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::backlog::published;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "tuning",
    about: "batch size, concurrency and backoff settings show in /metrics",
    group: Group::Short,
    within: Duration::from_secs(180),
    run: |figures| Box::pin(run(figures)),
};

const ROWS: u32 = 3000;

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    stage.relay(&[]).await?.stop().await?;
    let small = drain(&stage, &[("BATCH_SIZE", "10")], 1).await?;
    let large = drain(&stage, &[("BATCH_SIZE", "5000")], 2).await?;
    figures.add("window_events_10", format!("{:.0}", small.window_events));
    figures.add("window_events_5000", format!("{:.0}", large.window_events));
    ensure!(
        small.window_events <= 10.0,
        "windows of {} events",
        small.window_events
    );
    ensure!(
        large.window_events > 100.0,
        "windows of {} events",
        large.window_events
    );

    for (concurrency, expected) in [("1", 1.0), ("4", 2.0)] {
        let env = [("BATCH_SIZE", "10"), ("CONCURRENCY", concurrency)];
        let drained = drain(&stage, &env, 3).await?;
        figures.add(
            &format!("peak_in_flight_{concurrency}"),
            drained.peak_in_flight,
        );
        let fits = match concurrency {
            "1" => drained.peak_in_flight == expected,
            _ => drained.peak_in_flight >= expected,
        };
        ensure!(
            fits,
            "{} windows in flight with {concurrency}",
            drained.peak_in_flight
        );
    }
    backoff(&stage, figures).await
}

struct Drained {
    window_events: f64,
    peak_in_flight: f64,
}

/// Drains a backlog with these settings.
async fn drain(stage: &Stage, env: &[(&str, &str)], round: u32) -> Result<Drained> {
    let sql = format!(
        "DO $$ BEGIN FOR i IN 1..{ROWS} LOOP \
           INSERT INTO outbox (event_type, transfer_id, payload) \
           VALUES ('transfers.settled', 'r{round}', '{{}}'); COMMIT; \
         END LOOP; END $$"
    );
    stage.postgres.sql(DATABASE, &sql)?;
    let relay = Relay::launch(&stage.flags(), env, stage.folder())?;
    published(&relay, f64::from(ROWS), Duration::from_secs(60)).await?;
    let windows = relay.count("outboxd_window_events_count", "")?;
    let drained = Drained {
        window_events: relay.count("outboxd_window_events_sum", "")? / windows,
        peak_in_flight: relay.count("outboxd_windows_in_flight_peak", "")?,
    };
    relay.stop().await?;
    Ok(drained)
}

/// With Postgres down, the waits between tries grow to the maximum, and differ from each other.
async fn backoff(stage: &Stage, figures: &mut Figures) -> Result<()> {
    let env = [("BACKOFF_INITIAL_MS", "50"), ("BACKOFF_MAX_MS", "800")];
    let relay = Relay::launch(&stage.flags(), &env, stage.folder())?;
    relay.ready().await?;
    stage.postgres.stop(testbed::StopMode::Fast)?;
    wait::until("the relay retries", Duration::from_secs(60), async || {
        Ok(relay.count("outboxd_retry_wait_seconds_count", "")? >= 12.0)
    })
    .await?;
    let waits = waits(&relay.log_text())?;
    stage.postgres.start_again()?;
    relay.ready().await?;
    relay.stop().await?;
    figures.add("waits_ms", format!("{waits:?}").replace(' ', ""));
    let bound = |attempt: u32| (50 * 2_u64.pow(attempt.min(10))).min(800);
    let within = waits
        .iter()
        .zip(0..)
        .all(|(wait, attempt)| *wait <= bound(attempt));
    ensure!(within, "a wait is above its bound: {waits:?}");
    let longest = waits.iter().max().context("no waits")?;
    ensure!(*longest > 100, "waits do not grow: {waits:?}");
    let distinct: std::collections::BTreeSet<_> = waits.iter().collect();
    ensure!(
        distinct.len() > waits.len() / 2,
        "waits are not jittered: {waits:?}"
    );
    Ok(())
}

/// The waits as logged, in order.
fn waits(log: &str) -> Result<Vec<u64>> {
    let mut waits = Vec::new();
    for line in log.lines().filter(|line| line.contains("wait_ms")) {
        let line: serde_json::Value = serde_json::from_str(line)?;
        waits.push(line["wait_ms"].as_u64().context("wait_ms")?);
    }
    Ok(waits)
}
