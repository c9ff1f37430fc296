//! The publication is narrowed and mended again before anybody has looked. The rows in between are
//! not in the stream, so the relay must notice the change itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::stopped::flowing;
use crate::oracle;
use crate::reader::Reader;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "publication-flicker",
    about: "a publication narrowed and mended between two looks stops the relay all the same",
    group: Group::Proof,
    within: Duration::from_secs(400),
    run: |figures| Box::pin(run(figures)),
};

const GAP: u32 = 5;
const WITHIN: Duration = Duration::from_secs(60);

struct Flicker {
    name: &'static str,
    change: &'static str,
    mend: &'static str,
}

const FLICKERS: &[Flicker] = &[
    Flicker {
        name: "table",
        change: "ALTER PUBLICATION outboxd DROP TABLE outbox",
        mend: "ALTER PUBLICATION outboxd ADD TABLE outbox",
    },
    Flicker {
        name: "publish",
        change: "ALTER PUBLICATION outboxd SET (publish = 'update')",
        mend: "ALTER PUBLICATION outboxd SET (publish = 'insert')",
    },
    Flicker {
        name: "filter",
        change: "ALTER PUBLICATION outboxd SET TABLE outbox WHERE (transfer_id IS NULL)",
        mend: "ALTER PUBLICATION outboxd SET TABLE outbox",
    },
    Flicker {
        name: "lasting-filter",
        change: "ALTER PUBLICATION outboxd SET TABLE outbox WHERE (transfer_id IS NULL)",
        mend: "SELECT 1",
    },
    // The key is the transfer id: without it the order of its events is gone.
    Flicker {
        name: "lasting-columns",
        change: "ALTER PUBLICATION outboxd SET TABLE outbox (id, event_type, payload)",
        mend: "SELECT 1",
    },
];

/// Where the relay is when the publication is changed.
#[derive(Debug, Clone, Copy)]
enum Relaying {
    /// Stopped by a signal for a moment, so between two looks.
    Frozen,
    /// Not started.
    Away,
}

async fn run(figures: &mut Figures) -> Result<()> {
    let mut silent = Vec::new();
    for flicker in FLICKERS {
        for relaying in [Relaying::Frozen, Relaying::Away] {
            let name = format!("{} {relaying:?}", flicker.name);
            let loud = strike(flicker, relaying).await;
            if !loud.with_context(|| name.clone())? {
                silent.push(name);
            }
        }
    }
    figures.add("silent", silent.len());
    ensure!(
        silent.is_empty(),
        "passed over in silence: {}",
        silent.join(", ")
    );
    Ok(())
}

/// Narrows, writes and mends; whether the relay then stops, or has published everything.
async fn strike(flicker: &Flicker, relaying: Relaying) -> Result<bool> {
    let stage = Stage::builder().patient().start().await?;
    let relay = flowing(&stage, &[]).await?;
    let relay = match relaying {
        Relaying::Frozen => {
            relay.program().pause();
            flash(&stage, flicker)?;
            relay.program().resume();
            relay
        }
        Relaying::Away => {
            relay.stop().await?;
            flash(&stage, flicker)?;
            stage.launch(&[])?
        }
    };
    if stops_or_catches_up(&stage, &relay)
        .await
        .with_context(|| relay.log_text())?
    {
        return Ok(true);
    }
    relay.stop().await?;
    Ok(oracle::judge(&stage).await?.lost == 0 && keys_are_whole(&stage)?)
}

/// Every event has the key that `Stage::insert` gave its row.
fn keys_are_whole(stage: &Stage) -> Result<bool> {
    let mut whole = true;
    Reader::open(&stage.kafka.bootstrap(), &TOPICS)?.drain(|seen| {
        whole &= seen.key.starts_with("t-");
    })?;
    Ok(whole)
}

fn flash(stage: &Stage, flicker: &Flicker) -> Result<()> {
    stage.postgres.sql(DATABASE, flicker.change)?;
    stage.insert(GAP)?;
    stage.postgres.sql(DATABASE, flicker.mend)?;
    Ok(())
}

/// Whether it stops before it has confirmed everything.
async fn stops_or_catches_up(stage: &Stage, relay: &Relay) -> Result<bool> {
    let end = stage.value("SELECT pg_current_wal_insert_lsn()")?;
    let passed = format!("SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots");
    let mut stopped = false;
    wait::until("it stops or confirms everything", WITHIN, async || {
        let status = relay.json("/status").unwrap_or_default();
        stopped = status["pipelines"][0]["state"] == "stopped";
        Ok(stopped || stage.value(&passed)? == "t")
    })
    .await?;
    Ok(stopped)
}
