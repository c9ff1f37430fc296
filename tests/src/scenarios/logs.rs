//! With event logging on, each event has one line, and no payload is in any. Other lines that repeat are
//! limited.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::backlog::published;
use crate::relay::{Relay, free_address};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "logs",
    about: "one JSON line per event with eventId and transferId, and never a payload; other like lines are limited, and counted",
    group: Group::Short,
    within: Duration::from_secs(120),
    run: |figures| Box::pin(run(figures)),
};

const ROWS: u32 = 500;
const BAD_ROWS: usize = 50;
/// The default of `log.repeats`.
const LIKE_LINES: usize = 20;
const MARKER: &str = "do-not-log-me";
const PASSWORD: &str = "hush-hush-7";

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let role = format!("CREATE ROLE quiet SUPERUSER LOGIN PASSWORD '{PASSWORD}'");
    stage.postgres.sql(DATABASE, &role)?;
    let url = stage
        .url()
        .replace("postgres:outboxd@", &format!("quiet:{PASSWORD}@"));
    let bootstrap = stage.bootstrap();
    let flags = [
        "--postgres",
        &url,
        "--kafka",
        &bootstrap,
        "--log-events",
        "--log-level",
        "trace",
    ];
    let relay = Relay::launch(&flags.map(str::to_owned), &[], stage.folder())?;
    relay.ready().await?;
    let sql = format!(
        "INSERT INTO outbox (event_type, transfer_id, payload) \
         SELECT 'transfers.settled', 't-' || i, jsonb_build_object('secret', '{MARKER}') \
         FROM generate_series(1, {ROWS}) i"
    );
    stage.postgres.sql(DATABASE, &sql)?;
    published(&relay, f64::from(ROWS), Duration::from_secs(30)).await?;
    // Rows that can't be published are named in the log, without their content either.
    let bad = format!(
        "INSERT INTO outbox (event_type, transfer_id, payload) \
         SELECT 'other.topic', 't-bad-' || i, jsonb_build_object('secret', '{MARKER}') \
         FROM generate_series(1, {BAD_ROWS}) i"
    );
    stage.postgres.sql(DATABASE, &bad)?;
    crate::wait::until("the dead letters", Duration::from_secs(20), async || {
        let dead = relay.count("outboxd_dead_letters_total", "pipeline=\"outbox\"")?;
        Ok(dead == BAD_ROWS as f64)
    })
    .await?;
    let status = relay.get("/status")?.1;
    let log_path = relay.log_path().to_owned();
    relay.stop().await?;
    let log = std::fs::read_to_string(log_path)?;
    ensure!(!log.contains(MARKER), "a payload is in the log");
    ensure!(!status.contains(MARKER), "a payload is in /status");
    ensure!(!status.contains(PASSWORD), "the password is in /status");
    ensure!(!log.contains(PASSWORD), "the password is in the log");
    let lines = per_event(&log)?;
    let ids = stage
        .postgres
        .sql(DATABASE, "SELECT id::text, transfer_id FROM outbox")?;
    let mut with_two = 0;
    for row in ids {
        let (id, transfer) = (
            row[0].clone().context("id")?,
            row[1].clone().context("transfer")?,
        );
        // A dead letter has its line beside the one of its publishing, unless there were too many.
        let found = lines.get(&id).map_or(0, Vec::len);
        let expected = if transfer.starts_with("t-bad-") {
            1..=2
        } else {
            1..=1
        };
        ensure!(expected.contains(&found), "event {id} has {found} lines");
        with_two += usize::from(found == 2);
        let same = lines
            .get(&id)
            .is_none_or(|transfers| transfers[0] == transfer);
        ensure!(same, "event {id} is logged with another transferId");
    }
    ensure!(
        with_two == LIKE_LINES,
        "{with_two} dead letters have a line"
    );
    let left_out = left_out(&log, "dead letter")?;
    ensure!(
        left_out == [BAD_ROWS - LIKE_LINES],
        "left out: {left_out:?}"
    );
    figures.add("events", ROWS);
    figures.add("lines", log.lines().count());
    away(&stage).await
}

/// While Postgres is away the log does not grow, however often it is tried.
async fn away(stage: &Stage) -> Result<()> {
    let nobody = format!("postgres://postgres@{}/postgres", free_address()?);
    let env = [
        ("OUTBOXD_POSTGRES_URL", nobody.as_str()),
        ("OUTBOXD_KAFKA_BOOTSTRAP", &stage.bootstrap()),
        ("OUTBOXD_RETRY_INITIAL_BACKOFF", "1ms"),
        ("OUTBOXD_RETRY_MAX_BACKOFF", "10ms"),
        ("OUTBOXD_LOG_REPEATS", "2"),
    ];
    let relay = Relay::launch(&[], &env, stage.folder())?;
    crate::wait::until("some tries", Duration::from_secs(60), async || {
        let tries = relay.count("outboxd_retries_total", "");
        Ok(tries.is_ok_and(|tries| tries > 10.0))
    })
    .await?;
    let log_path = relay.log_path().to_owned();
    relay.stop().await?;
    let log = std::fs::read_to_string(log_path)?;
    let retrying = log
        .lines()
        .filter(|line| line.contains("\"message\":\"retrying\""));
    let (told, written): (Vec<_>, Vec<_>) = retrying.partition(|line| line.contains("left_out"));
    ensure!(written.len() <= 2 * told.len(), "too many lines: {log}");
    let left_out: usize = left_out(&log, "retrying")?.into_iter().sum();
    ensure!(left_out > 0, "nothing was left out: {log}");
    Ok(())
}

/// What the lines with this message say that was left out.
fn left_out(log: &str, message: &str) -> Result<Vec<usize>> {
    let mut counts = Vec::new();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line)?;
        if line["message"] == message && line["pipeline"] == "outbox" {
            let left_out = line["left_out"].as_u64();
            counts.extend(left_out.map(|count| count as usize));
        }
    }
    Ok(counts)
}

/// The transfer ids logged for each event id. Every line must be JSON.
fn per_event(log: &str) -> Result<HashMap<String, Vec<String>>> {
    let mut lines: HashMap<String, Vec<String>> = HashMap::new();
    for line in log.lines() {
        let line: Value =
            serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        if let Some(id) = line["eventId"].as_str() {
            let transfer = line["transferId"].as_str().context("no transferId")?;
            lines
                .entry(id.to_owned())
                .or_default()
                .push(transfer.to_owned());
        }
    }
    Ok(lines)
}
