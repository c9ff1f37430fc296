//! A standby is ready only while it sees a relay that confirms, and Kafka.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pgwire_replication::{ReplicationClient, ReplicationConfig};

use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "standby-signals",
    about: "a standby is ready only while a relay confirms and Kafka can be reached",
    group: Group::Proof,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(run(figures)),
};

const NOTICED_WITHIN: Duration = Duration::from_secs(60);
const ROWS: u32 = 1000;

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::start().await?;
    // The first relay fills the checkpoint topic.
    stage.relay(&[]).await?.stop().await?;

    let intruder = hold(&stage, "intruder").await?;
    let standby = stage.launch(&[])?;
    not_ready(&standby, "intruder").await?;
    let named = standby.log_text();
    ensure!(
        named.contains("intruder") && named.contains("from 127.0.0.1"),
        "whom it stands by for is not said:\n{named}"
    );
    release(intruder);
    streams(&standby).await?;
    standby.stop().await?;

    // Named like a relay, and confirming nothing.
    let idler = hold(&stage, "outboxd").await?;
    let standby = stage.launch(&[])?;
    ready_as_standby(&standby).await?;
    insert(&stage)?;
    figures.add("stalled_ms", not_ready(&standby, "confirmed").await?);
    let age = standby.count("outboxd_slot_unconfirmed_seconds", "")?;
    ensure!(age > 10.0, "unconfirmed for {age} s");
    ensure!(
        standby.metric("outboxd_slot_lag_bytes", "")?.is_some(),
        "a standby does not show what the slot costs"
    );
    release(idler);
    streams(&standby).await?;
    wait::until(
        "what was pending is published",
        NOTICED_WITHIN,
        async || {
            let published = standby.count("outboxd_events_published_total", "")?;
            Ok(published >= f64::from(ROWS))
        },
    )
    .await?;

    let second = stage.launch(&[])?;
    ready_as_standby(&second).await?;
    stage.kafka.stop()?;
    figures.add("kafka_ms", not_ready(&second, "kafka").await?);
    stage.kafka.start_again()?;
    ready_as_standby(&second).await?;
    second.stop().await?;
    standby.stop().await?;
    Ok(())
}

/// Another program reads from the slot, once nobody else does.
pub(super) async fn hold(stage: &Stage, name: &str) -> Result<ReplicationClient> {
    wait::until("the slot is free", Duration::from_secs(20), async || {
        Ok(stage.value("SELECT active FROM pg_replication_slots")? == "f")
    })
    .await?;
    let (host, user) = (stage.postgres.host(), testbed::SUPERUSER);
    let config = ReplicationConfig::new(
        host,
        user,
        testbed::PASSWORD,
        DATABASE,
        "outboxd",
        "outboxd",
    )
    .with_port(stage.postgres.port())
    .with_application_name(name);
    let mut client = ReplicationClient::connect(config).await?;
    client.wait_started().await?;
    Ok(client)
}

fn release(mut client: ReplicationClient) {
    client.abort();
}

/// Milliseconds until it is not ready for a reason with this word.
pub(super) async fn not_ready(standby: &Relay, word: &str) -> Result<u128> {
    let took = wait::until("a standby is not ready", NOTICED_WITHIN, async || {
        let Ok((status, body)) = standby.get("/ready") else {
            return Ok(false);
        };
        Ok(status == 503 && body.contains("\"role\":\"standby\"") && body.contains(word))
    })
    .await
    .with_context(|| {
        standby
            .get("/ready")
            .map(|(_, body)| body)
            .unwrap_or_default()
    })?;
    Ok(took.as_millis())
}

async fn ready_as_standby(relay: &Relay) -> Result<()> {
    wait::until("a standby is ready", NOTICED_WITHIN, async || {
        let Ok((status, body)) = relay.get("/ready") else {
            return Ok(false);
        };
        Ok(status == 200 && body.contains("\"role\":\"standby\""))
    })
    .await
    .with_context(|| {
        relay
            .get("/ready")
            .map(|(_, body)| body)
            .unwrap_or_default()
    })?;
    Ok(())
}

async fn streams(relay: &Relay) -> Result<()> {
    wait::until("it takes over", Duration::from_secs(30), async || {
        let (status, body) = relay.get("/ready")?;
        Ok(status == 200 && body.contains("streaming"))
    })
    .await
    .with_context(|| relay.log_text())?;
    Ok(())
}

fn insert(stage: &Stage) -> Result<()> {
    let sql = format!(
        "INSERT INTO outbox (event_type, payload) SELECT 'ledger.posted', '{{}}' \
         FROM generate_series(1, {ROWS})"
    );
    stage.postgres.sql(DATABASE, &sql)?;
    Ok(())
}
