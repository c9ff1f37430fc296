//! An idle outbox in a busy database pins no WAL.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "idle-slot",
    about: "the slot follows the WAL of a busy database though the outbox is idle",
    group: Group::Short,
    within: Duration::from_secs(120),
    run: |figures| Box::pin(run(figures)),
};

const BUSY: Duration = Duration::from_secs(12);
const FOLLOWS_WITHIN: Duration = Duration::from_secs(5);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let relay = stage.relay(&[]).await?;
    stage
        .postgres
        .sql(DATABASE, "CREATE TABLE busy (id bigint, pad text)")?;
    let (began, mut slowest, mut looks) = (Instant::now(), Duration::ZERO, 0);
    while began.elapsed() < BUSY {
        let busy = "INSERT INTO busy SELECT i, repeat('x', 200) FROM generate_series(1, 2000) i";
        stage.postgres.sql(DATABASE, busy)?;
        let end = stage.value("SELECT pg_current_wal_lsn()")?;
        let follows = format!("SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots");
        let took = wait::until("the slot follows", FOLLOWS_WITHIN, async || {
            Ok(stage.value(&follows)? == "t")
        });
        slowest = slowest.max(took.await?);
        looks += 1;
    }
    let published = relay.count("outboxd_events_published_total", "")?;
    ensure!(published == 0.0, "{published} events out of nothing");
    figures.add("looks", looks);
    figures.add("slowest_ms", slowest.as_millis());
    relay.stop().await?;
    Ok(())
}
