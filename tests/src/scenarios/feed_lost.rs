//! The list of a replay that somebody has deleted rows of.

use anyhow::{Result, ensure};

use super::feeds;
use super::stopped::{flowing, stops};
use crate::oracle;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "feed-lost",
    about: "a feed whose list is not whole is not taken for one that is done: the relay stops, and a repair gets it going",
    group: Group::Proof,
    within: std::time::Duration::from_secs(200),
    run: |figures| Box::pin(run(figures)),
};

const EVENTS: u32 = 300;
const GONE: u32 = 200;

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    let relay = flowing(&stage, &[]).await?;
    stage.insert(EVENTS)?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    let replay = [
        "replay",
        "--type",
        "transfers.settled",
        "--reason",
        "lost",
        "--yes",
        "--no-wait",
    ];
    let asked = feeds::json(&stage, &replay)?;
    let delete = format!("DELETE FROM outboxd.feed_rows WHERE ordinal = {GONE}");
    stage.postgres.sql(DATABASE, &delete)?;
    stage.insert(EVENTS)?;

    let relay = stage.launch(&[])?;
    stops(&stage, &relay, "feed-lost").await?;
    let done = feeds::json(&stage, &["repair", "--anyway", "--apply"])?;
    // The rows that nobody has published, and not what the replay was to publish again.
    ensure!(done["feeds"] == EVENTS, "{done}");
    let requests = done["requests"].as_array().map_or(0, Vec::len);
    ensure!(
        requests == 1,
        "the replay has to be asked for again: {done}"
    );
    figures.add("listed", &asked["rows"]);
    figures.add("feeds", &done["feeds"]);
    relay.ready().await?;
    feeds::no_feed_left(&stage, &relay).await?;
    stage.caught_up(&relay).await?;
    feeds::none_pending(&stage).await?;
    relay.stop().await?;
    oracle::require_exact(&stage).await?;
    Ok(())
}
