//! What an audit finds, and what a trace tells.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::message::{Headers, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use super::feeds;
use crate::cluster;
use crate::consumers;
use crate::reader::Reader;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, outboxd};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "audit",
    about: "a planted gap, duplicate and altered payload are found, and nothing else; the life of a replayed dead letter is told",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

const EVENTS: u32 = 500;
/// Alone in its topic, so that its record can be deleted.
const LONELY: [&str; 2] = ["ledger.posted", "recon.matched"];
/// Its topic is made late.
/// In payloads; nothing else looks like it.
const AMOUNT: &str = "90210.50";
const LATE: &str = "compliance.late";
const ENV: &[(&str, &str)] = &[("RETRY_MAX", "2")];
const TRIES: u64 = 3;
const FLUSH_WITHIN: Duration = Duration::from_secs(30);
/// Exit codes of an audit (docs/operations.md).
const AGREES: i32 = 0;
const FOUND: i32 = 1;
const COULD_NOT_LOOK: i32 = 3;

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    let relay = stage.relay_with(ENV).await?;
    stage.insert(EVENTS)?;
    for event_type in [LONELY[0], LONELY[1], LATE] {
        insert(&stage, event_type)?;
    }
    stage.caught_up(&relay).await?;
    replayed(&stage).await?;
    stage.caught_up(&relay).await?;

    let clean = audit(&stage, &stage.bootstrap(), AGREES)?;
    ensure!(clean["tables"][0]["rows"] == EVENTS + 3, "{clean}");
    ensure!(clean["records"]["events"] == EVENTS + 4, "{clean}");
    ensure!(
        clean["settled"] == true && clean["passed_over"]["replayed"] == 1,
        "{clean}"
    );
    let requests = clean["requests"].as_array().context("no requests")?;
    let told = |reason: &str| {
        requests
            .iter()
            .any(|r| r["reason"] == reason && r["by"] != "")
    };
    ensure!(
        requests.len() == 2 && told("the topic is there") && told("asked for"),
        "{clean}"
    );
    trace(&stage)?;
    tail(&stage)?;

    let planted = [
        missing(&stage).await?,
        doubled(&stage)?,
        altered(&stage).await?,
    ];
    let report = audit(&stage, &stage.bootstrap(), FOUND)?;
    let mut found = findings(&report)?;
    let mut expected = planted.to_vec();
    found.sort();
    expected.sort();
    ensure!(found == expected, "{report}");
    figures.add("rows", &report["tables"][0]["rows"]);
    figures.add("findings", found.len());
    audit(&stage, "127.0.0.1:1", COULD_NOT_LOOK)?;
    relay.stop().await?;
    Ok(())
}

fn insert(stage: &Stage, event_type: &str) -> Result<()> {
    let sql = format!(
        "INSERT INTO outbox (event_type, transfer_id, payload, headers) \
         VALUES ('{event_type}', 'lonely', '{{\"amount\": 90210.50, \"of\": \"{event_type}\"}}', '{{\"traceparent\": \"00-1\"}}')"
    );
    stage.postgres.sql(DATABASE, &sql)?;
    Ok(())
}

fn id_of(stage: &Stage, event_type: &str) -> Result<String> {
    stage.value(&format!(
        "SELECT id::text FROM outbox WHERE event_type = '{event_type}' ORDER BY seq LIMIT 1"
    ))
}

/// A dead letter is published once its topic is there, and another event again, on request.
async fn replayed(stage: &Stage) -> Result<()> {
    cluster::create_topic(&stage.bootstrap(), LATE, 2, &[]).await?;
    let letters = ["dlq", "replay", "--class", "topic-missing"];
    let because = ["--reason", "the topic is there", "--yes"];
    let done = feeds::json(stage, &[&letters[..], &because].concat())?;
    ensure!(done["published"] == 1, "{done}");
    let id = id_of(stage, LONELY[0])?;
    let again = ["replay", "--id", &id, "--reason", "asked for", "--yes"];
    let done = feeds::json(stage, &again)?;
    ensure!(done["rows"] == 1 && done["done"] == true, "{done}");
    Ok(())
}

fn audit(stage: &Stage, brokers: &str, expected: i32) -> Result<Value> {
    let url = stage.url();
    let args = [
        "audit",
        "--since",
        "2000-01-01",
        "--json",
        "--postgres",
        &url,
        "--kafka",
        brokers,
    ];
    let output = Command::new(outboxd()?).args(args).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(expected),
        "{}: {said}{errors}",
        output.status
    );
    if expected == COULD_NOT_LOOK {
        ensure!(
            errors.contains("remedy") && said.is_empty(),
            "{said}{errors}"
        );
        return Ok(Value::Null);
    }
    serde_json::from_str(&said).with_context(|| said)
}

/// Kind and id of each.
fn findings(report: &Value) -> Result<Vec<(String, String)>> {
    let findings = report["findings"].as_array().context("no findings")?;
    let text = |finding: &Value, name: &str| {
        let text = finding[name].as_str();
        text.map(str::to_owned)
            .with_context(|| format!("no {name}"))
    };
    let found = findings
        .iter()
        .map(|f| Ok((text(f, "kind")?, text(f, "event_id")?)));
    found.collect()
}

/// All records of a topic.
fn records(stage: &Stage, topic: &str) -> Result<Vec<OwnedMessage>> {
    let mut records = Vec::new();
    Reader::open(&stage.bootstrap(), &[topic])?.drain_records(|message| {
        records.push(message.detach());
        Ok(())
    })?;
    Ok(records)
}

/// The broker loses the only record of an event.
async fn missing(stage: &Stage) -> Result<(String, String)> {
    let topic = LONELY[1];
    for record in records(stage, topic)? {
        cluster::delete_records(&stage.bootstrap(), topic, record.partition()).await?;
    }
    Ok(("missing".to_owned(), id_of(stage, topic)?))
}

/// Somebody writes an event a second time, with everything that it has.
fn doubled(stage: &Stage) -> Result<(String, String)> {
    let all = records(stage, "transfers.settled")?;
    let record = all.get(all.len() / 2).context("no records")?;
    let value = record.payload().context("no value")?;
    forge(stage, record, value)?;
    let headers = record.headers().context("no headers")?;
    let id = headers.iter().find(|header| header.key == "eventId");
    let id = id.and_then(|header| header.value).context("no id")?;
    Ok(("doubled".to_owned(), String::from_utf8(id.to_vec())?))
}

/// Somebody puts a record with another payload in the place of an event's.
async fn altered(stage: &Stage) -> Result<(String, String)> {
    let topic = LONELY[0];
    let all = records(stage, topic)?;
    for record in &all {
        cluster::delete_records(&stage.bootstrap(), topic, record.partition()).await?;
    }
    for record in &all {
        let value = String::from_utf8(record.payload().context("no value")?.to_vec())?;
        let is_first = Some(record.offset()) == all.iter().map(Message::offset).min();
        let forged = match is_first {
            true => value.replace(AMOUNT, "90210.5"),
            false => value.clone(),
        };
        ensure!(!is_first || forged != value, "nothing to alter in {value}");
        forge(stage, record, forged.as_bytes())?;
    }
    Ok(("altered".to_owned(), id_of(stage, topic)?))
}

/// Produces a record like another one, with this value.
fn forge(stage: &Stage, like: &OwnedMessage, value: &[u8]) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", stage.bootstrap());
    let producer: BaseProducer = config.create()?;
    let headers: OwnedHeaders = like.headers().context("no headers")?.clone();
    let mut record = BaseRecord::<[u8], [u8]>::to(like.topic())
        .partition(like.partition())
        .payload(value)
        .headers(headers)
        .timestamp(like.timestamp().to_millis().context("no time")?);
    record.key = like.key();
    producer.send(record).map_err(|(error, _)| error)?;
    Ok(producer.flush(FLUSH_WITHIN)?)
}

/// The story of the event that was tried, dead, published, and handled.
fn trace(stage: &Stage) -> Result<()> {
    let id = id_of(stage, LATE)?;
    stage.postgres.sql(DATABASE, consumers::INBOX)?;
    let claim = format!("SELECT inbox_claim('compliance', '{id}')");
    stage.postgres.sql(DATABASE, &claim)?;
    let url = stage.url();
    let story = feeds::json(stage, &["trace", &id, "--consumer-db", &url])?;
    let row = &story["rows"][0];
    ensure!(
        row["state"] == "SENT" && row["type"] == LATE && row["topic"] == LATE,
        "{story}"
    );
    ensure!(row.get("payload").is_none(), "a payload is shown: {story}");
    let letter = &story["dead_letters"][0];
    let request = &letter["resolution"]["request"];
    ensure!(
        letter["class"] == "topic-missing" && letter["attempts"] == TRIES,
        "{story}"
    );
    ensure!(letter["resolution"]["kind"] == "replayed", "{story}");
    let record = &story["records"][0];
    let is_streamed = record["commit_lsn"].is_string() && record["position"] == letter["position"];
    ensure!(record["topic"] == LATE && is_streamed, "{story}");
    let asked = &story["requests"][0];
    ensure!(
        asked["request"] == *request && asked["reason"] == "the topic is there",
        "{story}"
    );
    ensure!(
        asked["by"] != "" && asked["command"]["command"] == "dlq-replay",
        "{story}"
    );
    ensure!(story["covering"]["is_confirmed"] == true, "{story}");
    let handled = &story["consumers"][0]["handled"][0];
    ensure!(handled["consumer"] == "compliance", "{story}");

    let shown = feeds::json(stage, &["trace", &id, "--payload"])?;
    let payload = shown["rows"][0]["payload"].as_str().unwrap_or_default();
    ensure!(payload.contains(AMOUNT), "{shown}");
    let text = feeds::command(stage, &["trace", &id], &[])?;
    ensure!(
        text.contains("replayed by request") && !text.contains(AMOUNT),
        "{text}"
    );
    // Published again on request, long after the row if that must be: found by the request.
    let twice = feeds::json(stage, &["trace", &id_of(stage, LONELY[0])?])?;
    let records = twice["records"].as_array().context("no records")?;
    let by_request = records.iter().filter(|r| r["replay"].is_string()).count();
    ensure!(records.len() == 2 && by_request == 1, "{twice}");
    ensure!(twice["requests"][0]["reason"] == "asked for", "{twice}");
    unknown(stage)
}

/// What nobody knows is said so.
fn unknown(stage: &Stage) -> Result<()> {
    let mut args = vec![
        "trace".to_owned(),
        "00000000-0000-4000-8000-000000000000".to_owned(),
    ];
    args.extend(stage.flags());
    let output = Command::new(outboxd()?).args(&args).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.code() == Some(1) && said.contains("no table has it"),
        "{said}"
    );
    Ok(())
}

fn tail(stage: &Stage) -> Result<()> {
    let from = ["tail", "--from", "beginning", "--limit", "1"];
    let by_topic = ["--topic", "ledger.*", "--transfer-id", "lonely"];
    let line = feeds::json(stage, &[&from[..], &by_topic].concat())?;
    ensure!(
        line["event_id"] == id_of(stage, LONELY[0])?.as_str(),
        "{line}"
    );
    ensure!(
        line["type"] == LONELY[0] && line["latency_ms"].is_i64(),
        "{line}"
    );
    ensure!(line.get("value").is_none(), "a payload is shown: {line}");
    let dead = feeds::json(stage, &[&from[..], &["--topic", "*.dead-letter"]].concat())?;
    ensure!(dead["dead_letter"] == "topic-missing", "{dead}");
    Ok(())
}
