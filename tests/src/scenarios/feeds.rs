//! What scenarios of backfill, repair and replay have in common. Not a scenario.

use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::Program;
use tokio_postgres::Client;

use super::checkpoints;
use crate::relay::Relay;
use crate::stage::{Stage, outboxd};
use crate::wait;

const WITHIN: Duration = Duration::from_secs(60);
const FEED_WITHIN: Duration = Duration::from_secs(300);

/// Runs a command of outboxd that must succeed; what it prints.
pub(super) fn command(stage: &Stage, args: &[&str], env: &[(&str, &str)]) -> Result<String> {
    ended(stage, args, env, 0)
}

/// What a command of outboxd prints that must end with this exit code.
fn ended(stage: &Stage, args: &[&str], env: &[(&str, &str)], code: i32) -> Result<String> {
    let mut all: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    all.extend(stage.flags());
    let output = Command::new(outboxd()?)
        .args(&all)
        .envs(env.iter().copied())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let (status, wanted) = (output.status, Some(code));
    ensure!(
        status.code() == wanted,
        "{args:?}: {status}: {said}{errors}"
    );
    Ok(said)
}

/// As `command`, of its JSON.
pub(super) fn json(stage: &Stage, args: &[&str]) -> Result<Value> {
    document(stage, args, 0)
}

/// As `json`, of a command that must say by its exit code that what was asked for has not come about.
pub(super) fn json_of_failed(stage: &Stage, args: &[&str]) -> Result<Value> {
    document(stage, args, 1)
}

fn document(stage: &Stage, args: &[&str], code: i32) -> Result<Value> {
    let said = ended(stage, &[args, &["--json"]].concat(), &[], code)?;
    serde_json::from_str(&said).with_context(|| said)
}

/// As `command`, of one that needs neither server.
pub(super) fn plain(args: &[&str]) -> Result<()> {
    let output = Command::new(outboxd()?).args(args).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{args:?}: {errors}");
    Ok(())
}

/// Starts a command of outboxd that is to be killed.
pub(super) fn start(stage: &Stage, args: &[&str]) -> Result<Program> {
    let mut all: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    all.extend(stage.flags());
    let log = stage.folder().join(format!("{}.log", args.join("-")));
    Ok(Program::start(&outboxd()?, &all, &[], &log)?)
}

/// Keeps everybody from writing down the rows of a feed, until it is dropped. It has no transaction
/// id, for which the making of a slot would wait.
pub(super) async fn hold_gathering(stage: &Stage) -> Result<Client> {
    let client = stage.client().await?;
    client
        .batch_execute("BEGIN; LOCK TABLE outboxd.feed_rows IN SHARE MODE")
        .await?;
    Ok(client)
}

/// Waits until somebody is about to write down the rows of a feed, with the slot made.
pub(super) async fn gathering(stage: &Stage) -> Result<()> {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO outboxd.feed_rows%'";
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'outboxd'";
    wait::until("rows are about to be gathered", WITHIN, async || {
        Ok(stage.value(waiting)? == "1" && stage.value(slots)? == "1")
    })
    .await?;
    Ok(())
}

/// The newest checkpoint.
pub(super) fn checkpoint(stage: &Stage) -> Result<Value> {
    let newest = checkpoints::committed(stage)?;
    let value = newest.get("checkpoint").context("no checkpoint")?;
    Ok(serde_json::from_slice(value)?)
}

/// Waits until nothing is left of any feed, as long as it gets less. Nobody may be writing: the checkpoint
/// is read to an end.
pub(super) async fn no_feed_left(stage: &Stage, relay: &Relay) -> Result<()> {
    let (mut least, mut since) = (f64::INFINITY, Instant::now());
    wait::until(
        "the rows of the feed are deleted",
        FEED_WITHIN,
        async || {
            let left = relay.count("outboxd_feed_rows_left", "")?;
            if left < least {
                (least, since) = (left, Instant::now());
            }
            ensure!(
                since.elapsed() < WITHIN * wait::patience(),
                "{left} rows of the feed stay"
            );
            Ok(left == 0.0 && stage.value("SELECT count(*) FROM outboxd.feed_rows")? == "0")
        },
    )
    .await
    .with_context(|| relay.log_text())?;
    let feed = checkpoint(stage)?["feed"].clone();
    ensure!(feed.is_null(), "a feed is still in the checkpoint: {feed}");
    Ok(())
}

/// Waits until every row is marked.
pub(super) async fn none_pending(stage: &Stage) -> Result<()> {
    wait::until("no row is PENDING", WITHIN, async || {
        Ok(stage.value("SELECT count(*) FROM outbox WHERE state = 'PENDING'")? == "0")
    })
    .await?;
    Ok(())
}

/// Ids that a query gives.
pub(super) async fn ids(stage: &Stage, sql: &str) -> Result<HashSet<String>> {
    let rows = stage.client().await?.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Ids of the rows that a plan of `repair --list` names.
pub(super) fn planned(plan: &Value) -> Result<HashSet<String>> {
    let tables = plan["tables"].as_array().context("no tables")?;
    let rows = tables
        .iter()
        .filter_map(|table| table["rows"].as_array())
        .flatten();
    let id = |row: &Value| row["id"].as_str().map(str::to_owned).context("no id");
    rows.map(id).collect()
}
