//! Rows from before the slot: they are not published, every later one is, and the point between
//! the two is sharp although services write while the slot is made.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::misconfiguration::{outboxd_output, text};
use crate::oracle;
use crate::reader::Reader;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS};
use crate::wait;
use crate::writer::Writers;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "before-slot",
    about: "rows from before the slot are not published, all later ones are, and somebody says so",
    group: Group::Proof,
    within: Duration::from_secs(200),
    run: |figures| Box::pin(run(figures)),
};

const TABLE: &str = include_str!("../../../sql/outbox.sql");
const ROWS_BEFORE: u64 = 300;

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .patient()
        .postgres(|p| p.setting("track_commit_timestamp", "on"))
        .bare()
        .start()
        .await?;
    stage.postgres.sql(DATABASE, TABLE)?;
    let writers = Writers::start(&stage.url(), 4, Duration::from_millis(4));
    written(&writers, ROWS_BEFORE).await?;
    let mut init = vec!["init".to_owned(), "--apply".to_owned()];
    init.extend(stage.flags());
    init.extend(
        TOPICS
            .iter()
            .flat_map(|t| ["--topic".to_owned(), (*t).to_owned()]),
    );
    let init = outboxd_output(&init)?;
    ensure!(init.status.success(), "{}", text(&init));
    let mut doctor = vec!["doctor".to_owned()];
    doctor.extend(stage.flags());
    let doctor = outboxd_output(&doctor)?;
    let relay = stage.relay(&[]).await?;
    written(&writers, writers.written() + ROWS_BEFORE).await?;
    writers.stop().await?;
    stage.caught_up(&relay).await?;
    let run = relay.log_text();
    relay.stop().await?;

    let verdict = oracle::judge(&stage).await?;
    ensure!(
        verdict.duplicated + verdict.aborted_seen == 0,
        "{verdict}: {:?}",
        verdict.examples
    );
    ensure!(
        verdict.lost >= ROWS_BEFORE && verdict.lost < verdict.rows,
        "{verdict}"
    );
    is_sharp(&stage).await?;
    figures.add("rows", verdict.rows);
    figures.add("before_the_slot", verdict.lost);
    let said = [
        ("init", text(&init)),
        ("doctor", text(&doctor)),
        ("run", run),
    ];
    let said: Vec<_> = said
        .iter()
        .filter(|(_, text)| tells(text))
        .map(|(who, _)| *who)
        .collect();
    ensure!(
        !said.is_empty(),
        "neither init nor doctor nor run says that rows lie before the slot"
    );
    figures.add("said_by", said.join(","));
    Ok(())
}

async fn written(writers: &Writers, rows: u64) -> Result<()> {
    wait::until("rows are written", Duration::from_secs(60), async || {
        Ok(writers.written() >= rows)
    })
    .await?;
    Ok(())
}

/// Whether a text says that rows from before the slot are left out.
fn tells(text: &str) -> bool {
    let text = text.to_lowercase();
    [
        "before the slot",
        "older than the slot",
        "not be published",
        "not published",
    ]
    .iter()
    .any(|words| text.contains(words))
}

/// No row that was left out was committed after one that was published. Commit times are taken
/// shortly before the commit record is written, so neighbours may have changed places.
async fn is_sharp(stage: &Stage) -> Result<()> {
    let mut published = HashSet::new();
    Reader::open(&stage.kafka.bootstrap(), &TOPICS)?.drain(|seen| {
        published.insert(seen.event_id);
    })?;
    let sql = "SELECT id::text, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000)::int8 \
               FROM outbox";
    let rows = stage.client().await?.query(sql, &[]).await?;
    let (mut left_out, mut taken) = (i64::MIN, i64::MAX);
    for row in rows {
        let (id, at): (String, i64) = (row.get(0), row.get(1));
        match published.contains(&id) {
            true => taken = taken.min(at),
            false => left_out = left_out.max(at),
        }
    }
    let overlap = left_out.checked_sub(taken).context("no rows on one side")?;
    ensure!(
        overlap < 100,
        "a row was left out {overlap} ms after one was published"
    );
    Ok(())
}
