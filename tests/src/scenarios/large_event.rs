//! `event.max_bytes` is raised together with the topic's limit, as the remedy of `event-too-large`
//! says: that must be all that it takes.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::feeds::{self, ids};
use crate::letters::{letters, require_published};
use crate::oracle;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "large-event",
    about: "an event of 2 MB is a dead letter, whole, and holds up nothing; it flows once event.max_bytes and the topic's limit allow it",
    group: Group::Proof,
    within: Duration::from_secs(120),
    run: |figures| Box::pin(run(figures)),
};

/// Events that are not large.
const BEHIND_IT: u32 = 20;
const ALLOWED: [(&str, &str); 1] = [("OUTBOXD_EVENT_MAX_BYTES", "3MB")];
const INSERT: &str = "INSERT INTO outbox (event_type, payload) \
    VALUES ('transfers.settled', jsonb_build_object('text', repeat('x', 2000000)))";

async fn run(figures: &mut Figures) -> Result<()> {
    is_dead_and_whole().await?;
    flows_once_allowed(figures).await
}

/// With topics that take more than the relay does by default.
async fn stage() -> Result<Stage> {
    let stage = Stage::builder().patient();
    let stage = stage.kafka(|k| k.setting("message.max.bytes", "4194304"));
    stage.start().await
}

/// With the defaults: its dead letter is the event itself, so that it flows once it may.
async fn is_dead_and_whole() -> Result<()> {
    let stage = stage().await?;
    let relay = stage.relay(&[]).await?;
    stage.postgres.sql(DATABASE, INSERT)?;
    stage.insert(BEHIND_IT)?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    let letters = letters(&stage)?;
    let [letter] = &letters[..] else {
        bail!("{} dead letters", letters.len());
    };
    ensure!(letter.class == "too-large", "{}", letter.class);
    ensure!(
        !letter.is_stub && letter.record.1.len() > 2_000_000,
        "it is not whole"
    );
    let relay = stage.relay_with(&ALLOWED).await?;
    let replay = [
        "dlq",
        "replay",
        "--all",
        "--reason",
        "larger ones may pass",
        "--yes",
    ];
    let done = feeds::json(&stage, &replay)?;
    ensure!(done["published"] == 1, "{done}");
    relay.stop().await?;
    let ids = ids(&stage, "SELECT id::text FROM outbox").await?;
    require_published(&stage, &TOPICS, &ids)
}

async fn flows_once_allowed(figures: &mut Figures) -> Result<()> {
    let stage = stage().await?;
    let relay = stage.relay_with(&ALLOWED).await?;
    stage.postgres.sql(DATABASE, INSERT)?;
    wait::until("it is published", Duration::from_secs(30), async || {
        let (status, body) = relay.get("/ready")?;
        if status == 503 && body.contains("event-too-large") {
            bail!("it is refused all the same: {body}");
        }
        Ok(relay.count("outboxd_events_published_total", "")? == 1.0)
    })
    .await?;
    relay.stop().await?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}
