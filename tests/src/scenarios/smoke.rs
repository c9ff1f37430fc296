//! Rows become records, exactly as documented, over a restart of the relay.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, value::RawValue};

use crate::exposition::{self, Exposer};
use crate::oracle;
use crate::reader::Reader;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "smoke",
    about: "rows become records, exactly as documented, over a restart of the relay",
    group: Group::Short,
    within: Duration::from_secs(120),
    run: |figures| Box::pin(run(figures)),
};

const WITHIN: Duration = Duration::from_secs(20);
const NUMBER: &str = "12345678901234567890.10";

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    let relay = stage.relay(&[]).await?;
    insert(&stage)?;
    let stopped = relay.stop().await?;
    ensure!(
        stopped < Duration::from_secs(5),
        "stopping took {stopped:?}"
    );
    let relay = stage.relay(&[]).await?;
    insert(&stage)?;
    for path in ["/live", "/ready", "/metrics", "/version", "/status"] {
        let (status, _) = relay.get(path)?;
        ensure!(status == 200, "{path} answered {status}");
    }
    // A stop makes durable what was received; what was not is the next relay's.
    stage.caught_up(&relay).await?;
    wait::until("states are written back", WITHIN, async || {
        Ok(relay.count("outboxd_write_back_duration_seconds_count", "")? > 0.0)
    })
    .await?;
    exposition::check(&relay.get("/metrics")?.1, Exposer::Relay)?;
    relay.stop().await?;
    check_envelopes(&stage)?;
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    figures.add("stop_ms", stopped.as_millis());
    Ok(())
}

fn insert(stage: &Stage) -> Result<()> {
    for topic in TOPICS {
        let sql = format!(
            "INSERT INTO outbox (event_type, transfer_id, payload, headers) VALUES \
             ('{topic}', NULL, '{{\"amount\": {NUMBER}}}', '{{\"traceparent\": \"00-1-2-03\"}}'), \
             ('{topic}', 't-1', '[1, \"zwei\"]', NULL)"
        );
        stage.postgres.sql(DATABASE, &sql)?;
    }
    Ok(())
}

fn check_envelopes(stage: &Stage) -> Result<()> {
    let reader = Reader::open(&stage.bootstrap(), &TOPICS)?;
    let mut values = Vec::new();
    reader.drain(|seen| values.push(seen))?;
    for seen in &values {
        let envelope: Value = serde_json::from_str(&seen.value)?;
        let id = envelope["eventId"].as_str().context("eventId")?;
        ensure!(id == seen.event_id && envelope["type"] == seen.topic.as_str());
        let expected_key = envelope["transferId"].as_str().unwrap_or(id);
        ensure!(
            seen.key == expected_key,
            "key {} of {}",
            seen.key,
            seen.value
        );
        check_members(&seen.value)?;
        let occurred = envelope["occurredAt"].as_str().context("occurredAt")?;
        ensure!(
            occurred.len() == 27 && occurred.ends_with('Z'),
            "{occurred}"
        );
        let verbatim = seen.value.contains(NUMBER) || seen.value.contains(r#"[1, "zwei"]"#);
        ensure!(verbatim, "payload changed: {}", seen.value);
    }
    Ok(())
}

/// The five members, in this order.
fn check_members(value: &str) -> Result<()> {
    let mut rest = value;
    for name in ["eventId", "type", "occurredAt", "transferId", "payload"] {
        let at = rest
            .find(&format!("\"{name}\":"))
            .with_context(|| format!("{name}: {value}"))?;
        rest = &rest[at..];
    }
    let _: Box<RawValue> = serde_json::from_str(value)?;
    Ok(())
}
