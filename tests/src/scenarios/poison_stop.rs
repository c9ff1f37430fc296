//! Where nothing is to be dead-lettered, a row that can't be published stops the pipeline, and nothing
//! but what comes behind it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::misconfiguration::run_says;
use crate::oracle;
use crate::reader::{Isolation, Reader};
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "poison-stop",
    about: "what was committed before a row that can't be published arrives, and does not come again",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

/// Enough for many windows, of which several are in flight when the bad row is met.
const GOOD: u64 = 3000;
const BEHIND: u64 = 40;
const LIMITS: [(&str, &str); 3] = [
    ("OUTBOXD_EVENT_MAX_BYTES", "4KiB"),
    ("OUTBOXD_BATCH_MAX_EVENTS", "100"),
    ("OUTBOXD_TABLES_ON_DEAD_LETTER", "halt"),
];
/// Looks at a stopped pipeline are 5 s apart.
const LOOKS: usize = 3;

async fn run(figures: &mut Figures) -> Result<()> {
    for mode in ["exactly-once", "at-least-once"] {
        let records = stop_and_go(mode).await.context(mode)?;
        figures.add(&mode.replace('-', "_"), format!("{records}/{GOOD}"));
    }
    Ok(())
}

/// How many records there were while the pipeline was stopped.
async fn stop_and_go(mode: &str) -> Result<u64> {
    let stage = Stage::start().await?;
    insert(&stage, GOOD)?;
    let poison = "INSERT INTO outbox (event_type, payload) \
                  VALUES ('ledger.posted', jsonb_build_object('large', repeat('x', 5000)))";
    stage.postgres.sql(DATABASE, poison)?;
    insert(&stage, BEHIND)?;

    let relay = stage.launch_with(&["--mode", mode], &LIMITS)?;
    run_says(&relay, "event-too-large", "stopped").await?;
    let sessions = || relay.count("outboxd_sessions_total", "");
    let before = sessions()?;
    let looks = wait::until("it looks again", Duration::from_secs(60), async || {
        says_stopped(&relay)?;
        Ok(sessions()? >= before + LOOKS as f64)
    });
    looks.await.with_context(|| relay.log_text())?;
    let log = relay.log_text();
    let said = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    ensure!(
        said("\"streaming\"") == 1,
        "each look says that it streams:\n{log}"
    );
    ensure!(
        said("pipeline stopped") == 1,
        "each look says that it is stopped:\n{log}"
    );
    let published = records(&stage, Isolation::Committed)?;
    ensure!(published == GOOD, "{published} of {GOOD} are published");
    let produced = records(&stage, Isolation::Uncommitted)?;
    ensure!(
        produced < GOOD + GOOD / 10,
        "{produced} records for {GOOD} events: they are produced again and again"
    );
    relay.stop().await?;

    let relay = stage.launch_with(&["--mode", mode], &LIMITS[1..])?;
    relay.ready().await?;
    let all = wait::until("all are published", Duration::from_secs(60), async || {
        Ok(records(&stage, Isolation::Committed)? == GOOD + 1 + BEHIND)
    });
    all.await.with_context(|| relay.log_text())?;
    relay.stop().await?;
    oracle::require_exact(&stage).await?;
    Ok(produced)
}

/// Whatever it does to find out whether the cause is mended.
fn says_stopped(relay: &Relay) -> Result<()> {
    let (status, body) = relay.get("/ready")?;
    let told = body.contains("\"state\":\"stopped\"") && body.contains("event-too-large");
    ensure!(
        status == 503 && told,
        "a stopped pipeline answers {status} {body}"
    );
    let gauge = relay.count("outboxd_state", "state=\"stopped\"")?;
    ensure!(
        gauge == 1.0,
        "a stopped pipeline exports {gauge} for its state"
    );
    Ok(())
}

/// Each in a transaction of its own.
fn insert(stage: &Stage, rows: u64) -> Result<()> {
    let sql = format!(
        "DO $$ BEGIN FOR i IN 1..{rows} LOOP \
           INSERT INTO outbox (event_type, payload) VALUES ('ledger.posted', '{{}}'); COMMIT; \
         END LOOP; END $$"
    );
    stage.postgres.sql(DATABASE, &sql)?;
    Ok(())
}

fn records(stage: &Stage, isolation: Isolation) -> Result<u64> {
    let mut records = 0;
    Reader::open_at(&stage.bootstrap(), &TOPICS, isolation)?.drain(|_| records += 1)?;
    Ok(records)
}
