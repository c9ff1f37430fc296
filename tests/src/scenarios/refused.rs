//! Events that only the brokers refuse, and topics that take less than other topics.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::feeds::ids;
use crate::cluster;
use crate::letters::{letters, require_published};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "refused",
    about: "events without a key for a compacted topic are found by halves and die alone; a topic with a small limit takes all that fits",
    group: Group::Alone,
    within: Duration::from_secs(200),
    run: |figures| Box::pin(run(figures)),
};

const COMPACTED: &str = "recon.compacted";
const SMALL: &str = "ledger.small";
const ROWS: u32 = 1500;
const REFUSED: [u32; 2] = [700, 701];

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    let bootstrap = stage.bootstrap();
    let compacted = [("cleanup.policy", "compact")];
    cluster::create_topic(&bootstrap, COMPACTED, 2, &compacted).await?;
    let small = [("max.message.bytes", "16384")];
    cluster::create_topic(&bootstrap, SMALL, 2, &small).await?;
    fill(&stage)?;
    // Where it is NULL, there is no key.
    let relay = stage
        .relay_with(&[("OUTBOXD_TABLES_KEY", "transfer_id")])
        .await?;
    stage.caught_up(&relay).await?;
    let sessions = relay.count("outboxd_sessions_total", "")?;
    relay.stop().await?;

    let is_bad = "event_type = 'recon.compacted' AND transfer_id IS NULL";
    let large = "event_type = 'ledger.small' AND length(payload::text) > 20000";
    let good = format!("SELECT id::text FROM outbox WHERE NOT ({is_bad} OR {large})");
    let mut topics = TOPICS.to_vec();
    topics.extend([COMPACTED, SMALL]);
    require_published(&stage, &topics, &ids(&stage, &good).await?)?;
    let dead = letters(&stage)?;
    for (class, condition) in [("refused", is_bad), ("too-large", large)] {
        let expected = format!("SELECT id::text FROM outbox WHERE {condition}");
        let expected = ids(&stage, &expected).await?;
        let found: Vec<_> = dead.iter().filter(|l| l.class == class).collect();
        let once: HashSet<String> = found.iter().map(|l| l.id.clone()).collect();
        ensure!(
            once == expected && found.len() == expected.len(),
            "{class}: {dead:?}"
        );
        figures.add(class, found.len());
    }
    figures.add("sessions", sessions);
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
