//! Record keys that are longer than what a topic takes of what is kept of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::feeds::{self, ids};
use crate::cluster;
use crate::letters::{letters, require_published};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "long-key",
    about: "keys of 300 kB are parked, outlive a crash and are released, one of 6 MB leaves a stub, and nothing stops",
    group: Group::Proof,
    within: Duration::from_secs(120),
    run: |figures| Box::pin(run(figures)),
};

const ENV: &[(&str, &str)] = &[
    ("OUTBOXD_TABLES_ON_DEAD_LETTER", "park-key"),
    ("RETRY_MAX", "1"),
];
/// Does not exist at first.
const MISSING: &str = "compliance.late";
/// As SQL; the other one differs at its end only.
const LONG: &str = "repeat('k', 300000)";
const OTHER: &str = "repeat('k', 299999) || 'j'";

fn insert(stage: &Stage, event_type: &str, key: &str) -> Result<()> {
    let sql = format!(
        "INSERT INTO outbox (event_type, transfer_id, payload) VALUES ('{event_type}', {key}, '{{}}')"
    );
    stage.postgres.sql(DATABASE, &sql)?;
    Ok(())
}

fn count_of(stage: &Stage, class: &str) -> Result<usize> {
    Ok(letters(stage)?.iter().filter(|l| l.class == class).count())
}

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    let relay = stage.launch_with(&[], ENV)?;
    insert(&stage, MISSING, LONG)?;
    insert(&stage, "transfers.settled", LONG)?;
    insert(&stage, "transfers.settled", OTHER)?;
    insert(&stage, "transfers.settled", "repeat('x', 6000000)")?;
    let flown = stage.caught_up(&relay).await;
    flown.with_context(|| relay.log_text())?;
    ensure!(count_of(&stage, "parked")? == 1, "the other key is parked");
    let stubs = letters(&stage)?.into_iter().filter(|l| l.is_stub).count();
    ensure!(stubs == 1, "{stubs} stubs");

    relay.program().kill9();
    let relay = stage.launch_with(&[], ENV)?;
    insert(&stage, "transfers.settled", LONG)?;
    stage.caught_up(&relay).await?;
    ensure!(count_of(&stage, "parked")? == 2, "the key is forgotten");

    let missing = ["dlq", "list", "--class", "topic-missing"];
    let listed = feeds::json(&stage, &missing)?;
    let sha256 = listed["letters"][0]["key_sha256"].as_str();
    let sha256 = sha256.with_context(|| listed.to_string())?.to_owned();
    let stats = feeds::json(&stage, &["dlq", "stats"])?;
    ensure!(stats.to_string().contains(&sha256), "{stats}");
    cluster::create_topic(&stage.bootstrap(), MISSING, 2, &[]).await?;
    let key = ["--service", "outbox", "--key-sha256", &sha256];
    let why = ["--reason", "the topic is there", "--yes"];
    let release = [&["dlq", "release"][..], &key, &why].concat();
    let released = feeds::json(&stage, &release)?;
    ensure!(
        released["published"] == 3 && released["parked"] == false,
        "{released}"
    );
    insert(&stage, "transfers.settled", LONG)?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    ensure!(count_of(&stage, "parked")? == 2, "the key is still parked");
    let mut topics = TOPICS.to_vec();
    topics.push(MISSING);
    let published = ids(
        &stage,
        "SELECT id::text FROM outbox WHERE length(transfer_id) < 1000000",
    )
    .await?;
    figures.add("rows", published.len());
    require_published(&stage, &topics, &published)
}
