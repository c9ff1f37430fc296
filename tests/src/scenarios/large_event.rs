//! `event.max_bytes` is raised together with the topic's limit, as the remedy of `event-too-large`
//! says: that must be all that it takes.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "large-event",
    about: "an event of 2 MB flows once event.max_bytes and the topic's limit allow it",
    group: Group::Proof,
    within: Duration::from_secs(120),
    run: |figures| Box::pin(run(figures)),
};

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .patient()
        .kafka(|k| k.setting("message.max.bytes", "4194304"))
        .start()
        .await?;
    let env = [("OUTBOXD_EVENT_MAX_BYTES", "3MB")];
    let relay = Relay::launch(&stage.flags(), &env, stage.folder())?;
    relay.ready().await?;
    let insert = "INSERT INTO outbox (event_type, payload) \
                  VALUES ('transfers.settled', jsonb_build_object('text', repeat('x', 2000000)))";
    stage.postgres.sql(DATABASE, insert)?;
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
