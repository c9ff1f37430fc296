//! Old rows are published at the first start, while writers go on and relays are killed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::Direction;

use super::{checkpoints, feeds};
use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;
use crate::writer::Writers;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "backfill",
    about: "100,000 old rows while writers go on, the relay killed 5 times on the way: each exactly once",
    group: Group::Proof,
    within: Duration::from_secs(400),
    run: |figures| Box::pin(run(figures)),
};

const OLD_ROWS: u32 = 100_000;
/// Events that a relay publishes before it is killed.
const LIFE: f64 = 8_000.0;
const LIVES: u32 = 4;
const WITHIN: Duration = Duration::from_secs(120);
/// With small windows and a slow broker no relay is through with the feed before it is killed, however
/// late that is noticed.
const BRAKE: Duration = Duration::from_millis(10);
const ALL: &[(&str, &str)] = &[
    ("OUTBOXD_BACKFILL_ROWS", "all"),
    ("OUTBOXD_BATCH_MAX_EVENTS", "100"),
];

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().proxied().start().await?;
    // Everything but the slot and its records.
    stage.drop_slot().await?;
    checkpoints::delete(&stage).await?;
    checkpoints::create(&stage).await?;
    fill(&stage)?;
    let writers = Writers::start(&stage.url(), 4, Duration::from_millis(16));
    killed_while_gathering(&stage).await?;
    figures.add("killed_while_gathering", 1);
    stage.kafka_proxy()?.delay(Direction::ToServer, BRAKE);
    for _ in 0..LIVES {
        let done = killed_while_feeding(&stage).await?;
        figures.add("killed_at", done);
    }
    stage.kafka_proxy()?.heal()?;
    let relay = stage.relay_with(ALL).await?;
    writers.stop().await?;
    feeds::no_feed_left(&stage, &relay).await?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;

    let verdict = oracle::require_exact(&stage).await?;
    ensure!(verdict.rows > u64::from(OLD_ROWS), "{verdict}");
    figures.add("rows", verdict.rows);
    // Rows are chosen by reading the table, and then found one by one by their ids.
    let scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'outbox'";
    let scans: u32 = stage.value(scans)?.parse()?;
    figures.add("scans", scans);
    ensure!(scans < 20, "the table was read {scans} times");
    Ok(())
}

/// Keys with numbers of their own, in transactions of many rows.
fn fill(stage: &Stage) -> Result<()> {
    let sql = format!(
        "INSERT INTO outbox (event_type, transfer_id, payload) \
         SELECT 'transfers.settled', 'old-' || i % 500, \
           jsonb_build_object('key', 'old-' || i % 500, 'n', i) \
         FROM generate_series(1, {OLD_ROWS}) i"
    );
    stage.postgres.sql(DATABASE, &sql)?;
    Ok(())
}

/// The slot is there, and its rows are not: the next start makes it anew.
async fn killed_while_gathering(stage: &Stage) -> Result<()> {
    let hold = feeds::hold_gathering(stage).await?;
    let relay = stage.launch_with(&[], ALL)?;
    feeds::gathering(stage)
        .await
        .with_context(|| relay.log_text())?;
    relay.program().kill9();
    let checkpoint = feeds::checkpoint(stage)?;
    ensure!(checkpoint["kind"] == "intent", "{checkpoint}");
    drop(hold);
    Ok(())
}

async fn killed_while_feeding(stage: &Stage) -> Result<u64> {
    let relay = stage.launch_with(&[], ALL)?;
    wait::until("a part of the feed is published", WITHIN, async || {
        let count = relay.count("outboxd_events_published_total", "");
        Ok(count.is_ok_and(|count| count >= LIFE))
    })
    .await
    .with_context(|| relay.log_text())?;
    the_wait_shows(&relay)?;
    relay.program().kill9();
    let checkpoint = feeds::checkpoint(stage)?;
    let done = checkpoint["feed"]["done"].as_u64();
    done.with_context(|| format!("the feed was over already: {checkpoint}"))
}

/// The stream waits for the feed: whoever looks must see that.
fn the_wait_shows(relay: &Relay) -> Result<()> {
    let left = relay.count("outboxd_feed_rows_left", "")?;
    ensure!(left > 0.0, "no rows are left of the feed");
    let stale = relay.count("event_outbox_stale", "")?;
    let lag = relay.count("event_publish_lag_seconds", "")?;
    ensure!(
        stale == 1.0 || lag > 1.0,
        "a lag of {lag} s while the stream waits"
    );
    Ok(())
}
