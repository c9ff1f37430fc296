//! `event.max_bytes` is raised together with the topic's limit, as the remedy of `event-too-large`
//! says: that must be all that it takes.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::feeds;
use crate::letters::letters;
use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
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

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .patient()
        .kafka(|k| k.setting("message.max.bytes", "4194304"))
        .start()
        .await?;
    let insert = "INSERT INTO outbox (event_type, payload) \
                  VALUES ('transfers.settled', jsonb_build_object('text', repeat('x', 2000000)))";
    let relay = stage.relay(&[]).await?;
    stage.postgres.sql(DATABASE, insert)?;
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

    let env = [("OUTBOXD_EVENT_MAX_BYTES", "3MB")];
    let relay = Relay::launch(&stage.flags(), &env, stage.folder())?;
    relay.ready().await?;
    stage.postgres.sql(DATABASE, insert)?;
    wait::until("it is published", Duration::from_secs(30), async || {
        let (status, body) = relay.get("/ready")?;
        if status == 503 && body.contains("event-too-large") {
            bail!("it is refused all the same: {body}");
        }
        Ok(relay.count("outboxd_events_published_total", "")? == 1.0)
    })
    .await?;
    // What was dead is the event itself, and flows as well.
    let replay = [
        "dlq",
        "replay",
        "--all",
        "--reason",
        "larger events are allowed",
        "--yes",
    ];
    let done = feeds::json(&stage, &replay)?;
    ensure!(done["published"] == 1, "{done}");
    relay.stop().await?;
    let verdict = oracle::judge(&stage).await?;
    // It stands behind the events that came after it.
    let others = verdict.lost + verdict.duplicated + verdict.aborted_seen;
    ensure!(others == 0 && verdict.misordered == 1, "{verdict}");
    figures.add("rows", verdict.rows);
    Ok(())
}
