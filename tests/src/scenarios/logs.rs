//! With event logging on, each event has one line, and no payload is in any.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::backlog::published;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "logs",
    about: "one JSON line per event with eventId and transferId, and never a payload",
    group: Group::Short,
    within: Duration::from_secs(120),
    run: |figures| Box::pin(run(figures)),
};

const ROWS: u32 = 500;
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
    // A row that can't be published is named in the log, without its content either.
    let bad = format!(
        "INSERT INTO outbox (event_type, transfer_id, payload) \
         VALUES ('other.topic', 't-bad', jsonb_build_object('secret', '{MARKER}'))"
    );
    stage.postgres.sql(DATABASE, &bad)?;
    let dead = r#"outboxd_dead_letters_total{pipeline="outbox""#;
    crate::wait::until("the dead letter", Duration::from_secs(20), async || {
        Ok(relay.get("/metrics")?.1.contains(dead))
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
    for row in ids {
        let (id, transfer) = (
            row[0].clone().context("id")?,
            row[1].clone().context("transfer")?,
        );
        // A dead letter has its line beside the one of its publishing.
        let expected = if transfer == "t-bad" { 2 } else { 1 };
        let found = lines.get(&id).map_or(0, Vec::len);
        ensure!(found == expected, "event {id} has {found} lines");
        let same = lines
            .get(&id)
            .is_none_or(|transfers| transfers[0] == transfer);
        ensure!(same, "event {id} is logged with another transferId");
    }
    figures.add("events", ROWS);
    figures.add("lines", log.lines().count());
    Ok(())
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
