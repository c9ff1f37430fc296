//! The dead-letter topic is denied while dead letters are published again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::Direction;

use super::acl;
use super::feeds::{self, ids};
use super::misconfiguration::run_says;
use crate::letters::{letters, require_published};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, DEAD_LETTERS, Stage};
use crate::{cluster, wait};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "dlq-denied",
    about: "the dead-letter topic denied in the middle of a replay: stopped, no event is blamed, exact once it is granted",
    group: Group::Proof,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(run(figures)),
};

const MISSING: &str = "compliance.late";
const MANY: u32 = 4_000;
const ENV: &[(&str, &str)] = &[
    ("RETRY_MAX", "1"),
    ("OUTBOXD_DEAD_LETTER_MAX_PER_MINUTE", "100000"),
    // So many sessions would be needed to blame an event.
    ("OUTBOXD_BATCH_MAX_EVENTS", "4"),
];
const REQUEST: &str = "0191d2f0-6a3e-7c11-8a53-2f1d6c0e9b77";
const WITHIN: Duration = Duration::from_secs(60);
/// A slow broker: the replay goes on until the topic is denied, however late that is.
const BRAKE: Duration = Duration::from_millis(10);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .patient()
        .proxied()
        .kafka(acl::authorizing)
        .start()
        .await?;
    let relay = stage.relay_with(ENV).await?;
    let sql = format!(
        "INSERT INTO outbox (event_type, transfer_id, payload) \
         SELECT '{MISSING}', 'k-' || i % 50, jsonb_build_object('n', i) FROM generate_series(1, {MANY}) i"
    );
    stage.postgres.sql(DATABASE, &sql)?;
    stage.caught_up(&relay).await?;
    cluster::create_topic(&stage.bootstrap(), MISSING, 2, &[]).await?;

    stage.kafka_proxy()?.delay(Direction::ToServer, BRAKE);
    let replay = ["dlq", "replay", "--all", "--reason", "the topic is there"];
    let replay = [&replay[..], &["--yes", "--request-id", REQUEST]].concat();
    feeds::json(&stage, &[&replay[..], &["--no-wait"]].concat())?;
    let replayed = || relay.count("outboxd_replayed_events_total", "");
    wait::until("a part is replayed", WITHIN, async || {
        Ok(replayed().is_ok_and(|count| count >= 100.0))
    })
    .await
    .with_context(|| relay.log_text())?;
    acl::deny_writing(&stage, DEAD_LETTERS)?;
    run_says(&relay, "dead-letter-topic", "stopped").await?;
    let before = letters(&stage)?
        .iter()
        .filter(|l| !l.resolutions.is_empty())
        .count();
    ensure!(before < MANY as usize, "the replay was over before");
    figures.add("replayed_before", before);

    acl::grant_all(&stage, DEAD_LETTERS)?;
    stage.kafka_proxy()?.heal()?;
    let done = feeds::json(&stage, &replay).with_context(|| relay.log_text())?;
    ensure!(
        done["published"] == MANY && done["failed_again"] == 0,
        "{done}"
    );
    stage.caught_up(&relay).await?;
    figures.add("sessions", relay.count("outboxd_sessions_total", "")?);
    relay.stop().await?;
    let classes = letters(&stage)?;
    ensure!(
        classes.iter().all(|l| l.class == "topic-missing"),
        "an event is blamed"
    );
    let expected = ids(&stage, "SELECT id::text FROM outbox").await?;
    require_published(&stage, &[MISSING], &expected)?;
    Ok(())
}
