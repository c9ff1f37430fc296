//! Events that are published again on purpose.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::feeds;
use super::stopped::{flowing, records};
use crate::reader::Reader;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS, UNROUTABLE};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "replay",
    about: "events published again by id, type and time: once each, with a header that says so",
    group: Group::Proof,
    within: Duration::from_secs(200),
    run: |figures| Box::pin(run(figures)),
};

const EVENTS: u32 = 1_200;

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    let relay = flowing(&stage, &[]).await?;
    stage.insert(EVENTS)?;
    let other = "INSERT INTO outbox (event_type, transfer_id, payload) \
                 VALUES ('ledger.posted', 'x', '{}')";
    stage.postgres.sql(DATABASE, other)?;
    stage.caught_up(&relay).await?;
    let unroutable =
        format!("INSERT INTO outbox (event_type, payload) VALUES ('{UNROUTABLE}', '{{}}')");
    stage.postgres.sql(DATABASE, &unroutable)?;
    stage.caught_up(&relay).await?;
    let before = records(&stage)?;
    let dry = feeds::json(
        &stage,
        &["replay", "--type", "ledger.posted", "--reason", "a look"],
    )?;
    ensure!(dry["tables"][0]["rows"] == 1, "{dry}");
    ensure!(records(&stage)? == before, "a dry run has published");

    let id = stage.value("SELECT id::text FROM outbox WHERE event_type = 'ledger.posted'")?;
    let one = ["replay", "--id", &id, "--reason", "asked for", "--yes"];
    let one = feeds::json(&stage, &one)?;
    ensure!(one["rows"] == 1 && one["done"] == true, "{one}");
    fails_again(&stage)?;
    let of_type = [
        "replay",
        "--type",
        "transfers.settled",
        "--reason",
        "lost by a consumer",
        "--yes",
    ];
    let many = feeds::json(&stage, &of_type)?;
    ensure!(many["done"] == true, "{many}");
    feeds::no_feed_left(&stage, &relay).await?;
    relay.stop().await?;

    let expected: HashMap<String, HashSet<String>> = [
        (request(&one)?, [id].into()),
        (
            request(&many)?,
            feeds::ids(
                &stage,
                "SELECT id::text FROM outbox WHERE event_type = 'transfers.settled'",
            )
            .await?,
        ),
    ]
    .into();
    let mut found: HashMap<String, HashSet<String>> = HashMap::new();
    let (mut first, mut doubled) = (0, 0);
    Reader::open(&stage.bootstrap(), &TOPICS)?.drain(|seen| match seen.replay {
        None => first += 1,
        Some(request) => {
            let is_new = found.entry(request).or_default().insert(seen.event_id);
            doubled += u32::from(!is_new);
        }
    })?;
    ensure!(
        first == before && doubled == 0,
        "{first} first, {doubled} doubled"
    );
    ensure!(found == expected, "others were published again");
    figures.add("replayed", found.values().map(HashSet::len).sum::<usize>());
    let asked =
        "SELECT count(*) FROM outboxd.control WHERE requested_by = session_user AND reason <> ''";
    ensure!(stage.value(asked)? == "3", "the record is not complete");
    Ok(())
}

/// What can't be published is no success.
fn fails_again(stage: &Stage) -> Result<()> {
    let id = format!("SELECT id::text FROM outbox WHERE event_type = '{UNROUTABLE}'");
    let replay = [
        "replay",
        "--id",
        &stage.value(&id)?,
        "--reason",
        "a try",
        "--yes",
    ];
    let done = feeds::json_of_failed(stage, &replay)?;
    ensure!(
        done["published"] == 0 && done["failed_again"] == 1,
        "{done}"
    );
    Ok(())
}

fn request(answer: &serde_json::Value) -> Result<String> {
    let request = answer["request"].as_str();
    Ok(request.context("no request")?.to_owned())
}
