//! The publication changes while a transaction is published in part.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::oracle;
use crate::reader::Reader;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "publication-altered-midway",
    about: "a transaction published in part is finished, though the publication has grown since",
    group: Group::Proof,
    within: Duration::from_secs(120),
    run: |figures| Box::pin(run(figures)),
};

const ROWS: u64 = 60_000;
/// Far more windows than can be done before the relay is killed.
const SMALL: [(&str, &str); 2] = [
    ("OUTBOXD_BATCH_MAX_BYTES", "16KiB"),
    ("OUTBOXD_EVENT_MAX_BYTES", "8KiB"),
];

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let other = "CREATE TABLE other (id int PRIMARY KEY)";
    stage.postgres.sql(DATABASE, other)?;
    // Rows of both tables in turn: the other table's count as soon as it is published, and not in
    // a transaction from before that.
    let sql = format!(
        "DO $$ BEGIN FOR i IN 1..{ROWS} LOOP \
           INSERT INTO outbox (event_type, payload) VALUES ('ledger.posted', '{{}}'); \
           IF i % 3 = 0 THEN INSERT INTO other VALUES (i); END IF; \
         END LOOP; END $$"
    );
    stage.postgres.sql(DATABASE, &sql)?;
    let relay = stage.launch_with(&[], &SMALL)?;
    wait::until("a part is published", Duration::from_secs(60), async || {
        Ok(relay
            .count("outboxd_events_published_total", "")
            .is_ok_and(|n| n > 0.0))
    })
    .await?;
    relay.program().kill9();
    let mut part = 0;
    Reader::open(&stage.bootstrap(), &TOPICS)?.drain(|_| part += 1)?;
    ensure!(part > 0 && part < ROWS, "{part} of {ROWS} were published");
    figures.add("part", part);
    stage
        .postgres
        .sql(DATABASE, "ALTER PUBLICATION outboxd ADD TABLE other")?;
    let relay = stage.relay(&[]).await?;
    super::postgres_restart::caught_up(&stage).await?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}
