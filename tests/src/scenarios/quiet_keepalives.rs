//! The slot follows the WAL under a steady load, and in silence; and silence is not taken for a
//! dead server, by either side.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::keepalive_in_flight::walsender;
use super::postgres_restart::caught_up;
use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;
use crate::writer::Writers;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "quiet-keepalives",
    about: "the slot follows within 2 s, under load and idle; silence ends no connection",
    group: Group::Proof,
    within: Duration::from_secs(200),
    run: |figures| Box::pin(run(figures)),
};

const WAL_SENDER_TIMEOUT: Duration = Duration::from_secs(4);
const ENV: [(&str, &str); 1] = [("OUTBOXD_POSTGRES_WAL_SENDER_TIMEOUT", "4s")];
const LOOKS: usize = 12;
/// The promise, for the median; single looks may be held up by a busy machine.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(2);
const SLOWEST: Duration = Duration::from_secs(10);
/// What moves the WAL without an event. The message outside a transaction is followed by nothing.
const MOVES: [&str; 3] = [
    "INSERT INTO busy SELECT generate_series(1, 100)",
    "SELECT pg_logical_emit_message(true, 'busy', 'x')",
    "SELECT pg_logical_emit_message(false, 'busy', 'x')",
];

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let create = "CREATE TABLE busy (id bigint)";
    stage.postgres.sql(DATABASE, create)?;
    let relay = stage.relay_with(&ENV).await?;
    let pid = walsender(&stage)?.context("no walsender")?;

    let writers = Writers::start(&stage.url(), 2, Duration::from_millis(20));
    let loaded = follows(&stage, |_| None).await.context("under load")?;
    figures.add("loaded_median_ms", loaded.as_millis());
    writers.stop().await?;
    caught_up(&stage).await?;

    let idle = follows(&stage, |look| MOVES.get(look % MOVES.len()).copied()).await;
    let idle = idle.context("idle")?;
    figures.add("idle_median_ms", idle.as_millis());
    silence(&stage, &relay, pid).await?;
    for median in [loaded, idle] {
        ensure!(median < FOLLOWS_WITHIN, "the slot follows after {median:?}");
    }
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}

/// How long the slot takes to reach the end of the WAL, the median of some looks.
async fn follows(
    stage: &Stage,
    moving: impl Fn(usize) -> Option<&'static str>,
) -> Result<Duration> {
    let mut took = Vec::new();
    for look in 0..LOOKS {
        if let Some(sql) = moving(look) {
            stage.postgres.sql(DATABASE, sql)?;
        }
        let end = stage.value("SELECT pg_current_wal_insert_lsn()")?;
        let follows = format!("SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots");
        let waited = wait::until("the slot follows", SLOWEST, async || {
            Ok(stage.value(&follows)? == "t")
        });
        took.push(waited.await?);
    }
    took.sort_unstable();
    took.get(LOOKS / 2).copied().context("no looks")
}

/// Nothing happens for several times the timeout: the relay stays ready on the same connection.
async fn silence(stage: &Stage, relay: &Relay, pid: u32) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < WAL_SENDER_TIMEOUT * 4 {
        let (status, body) = relay.get("/ready")?;
        ensure!(status == 200, "not ready in silence: {body}");
        let now = walsender(stage)?;
        ensure!(now == Some(pid), "walsender {pid} became {now:?}");
        // The silence lasts; this waits for nothing.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
