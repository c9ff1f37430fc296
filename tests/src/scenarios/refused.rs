//! Events that only the brokers refuse, and topics that take less than other topics.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::feeds::ids;
use crate::cluster;
use crate::letters::{letters, require_published};
use crate::reader::Reader;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "refused",
    about: "events without a key for a compacted topic, which the brokers name, die alone, in both modes; a topic with a small limit takes all that fits",
    group: Group::Alone,
    within: Duration::from_secs(200),
    run: |figures| Box::pin(run(figures)),
};

const COMPACTED: &str = "recon.compacted";
const SMALL: &str = "ledger.small";
const ROWS: u32 = 1500;
const REFUSED: [u32; 2] = [700, 701];
/// The first one, one that makes smaller batches, and one for each batch that has an event that is named.
const SESSIONS: f64 = 5.0;

async fn run(figures: &mut Figures) -> Result<()> {
    let sessions = refused(figures, "exactly-once").await?;
    figures.add("sessions", sessions);
    ensure!(sessions <= SESSIONS, "it took {sessions} sessions");
    let sessions = refused(figures, "at-least-once").await?;
    figures.add("sessions_at_least_once", sessions);
    ensure!(sessions <= SESSIONS, "it took {sessions} sessions");
    Ok(())
}

/// How many sessions it took.
async fn refused(figures: &mut Figures, mode: &str) -> Result<f64> {
    let stage = Stage::builder().patient().start().await?;
    let bootstrap = stage.bootstrap();
    let compacted = [("cleanup.policy", "compact")];
    cluster::create_topic(&bootstrap, COMPACTED, 2, &compacted).await?;
    let small = [("max.message.bytes", "16384")];
    cluster::create_topic(&bootstrap, SMALL, 2, &small).await?;
    fill(&stage)?;
    // Where it is NULL, there is no key.
    let env = [
        ("OUTBOXD_TABLES_KEY", "transfer_id"),
        ("OUTBOXD_MODE", mode),
    ];
    let relay = stage.relay_with(&env).await?;
    stage.caught_up(&relay).await?;
    let sessions = relay.count("outboxd_sessions_total", "")?;
    relay.stop().await?;

    let is_bad = "event_type = 'recon.compacted' AND transfer_id IS NULL";
    let large = "event_type = 'ledger.small' AND length(payload::text) > 20000";
    let good = format!("SELECT id::text FROM outbox WHERE NOT ({is_bad} OR {large})");
    let mut topics = TOPICS.to_vec();
    topics.extend([COMPACTED, SMALL]);
    let good = ids(&stage, &good).await?;
    match mode {
        "exactly-once" => require_published(&stage, &topics, &good)?,
        _ => require_some_of_each(&stage, &topics, &good)?,
    }
    let dead = letters(&stage)?;
    for (class, condition) in [("refused", is_bad), ("too-large", large)] {
        let expected = format!("SELECT id::text FROM outbox WHERE {condition}");
        let expected = ids(&stage, &expected).await?;
        let found: Vec<_> = dead.iter().filter(|l| l.class == class).collect();
        let once: HashSet<String> = found.iter().map(|l| l.id.clone()).collect();
        let is_exact = found.len() == expected.len() || mode != "exactly-once";
        ensure!(once == expected && is_exact, "{class}: {dead:?}");
        figures.add(&format!("{class} {mode}"), found.len());
    }
    Ok(sessions)
}

/// Every good event was published, and no other.
fn require_some_of_each(stage: &Stage, topics: &[&str], expected: &HashSet<String>) -> Result<()> {
    let mut seen = HashSet::new();
    Reader::open(&stage.bootstrap(), topics)?.drain(|event| {
        seen.insert(event.event_id);
    })?;
    let lost = expected.difference(&seen).count();
    ensure!(lost == 0, "{lost} are lost");
    ensure!(seen.len() == expected.len(), "others were published");
    Ok(())
}

/// Three topics in turn, in transactions of ten rows.
fn fill(stage: &Stage) -> Result<()> {
    let refused = REFUSED.map(|n| n.to_string()).join(", ");
    let sql = format!(
        "DO $$ DECLARE t text; k text; pad int; BEGIN FOR i IN 1..{ROWS} LOOP \
           t := (ARRAY['transfers.settled', '{SMALL}', '{COMPACTED}'])[1 + i % 3]; \
           k := 'k-' || i % 40; pad := 500; \
           IF i IN ({refused}) THEN t := '{COMPACTED}'; k := NULL; END IF; \
           IF i = 1001 THEN t := '{SMALL}'; pad := 30000; END IF; \
           INSERT INTO outbox (event_type, transfer_id, payload) VALUES \
             (t, k, jsonb_build_object('n', i, 'pad', repeat('x', pad))); \
           IF i % 10 = 0 THEN COMMIT; END IF; END LOOP; END $$"
    );
    stage.postgres.sql(DATABASE, &sql)?;
    Ok(())
}
