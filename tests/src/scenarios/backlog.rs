//! A backlog of a million single-row transactions, against a client that only receives.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pgwire_replication::{Lsn, ReplicationClient, ReplicationConfig, ReplicationEvent};

use crate::oracle;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "backlog",
    about: "1,000,000 single-row transactions at 80 % or more of a receive-only client's rate",
    group: Group::Alone,
    within: Duration::from_secs(600),
    run: |figures| Box::pin(run(figures)),
};

/// The promised bound of the relay's memory with rows of ordinary size.
pub(super) const MEMORY_KIB_MAX: u64 = 64 * 1024;
const ROWS: u32 = 1_000_000;
const RATIO_MIN: f64 = 0.8;
const DRAINED_WITHIN: Duration = Duration::from_secs(200);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .postgres(|p| p.setting("max_wal_size", "4GB"))
        .start()
        .await?;
    stage.relay(&[]).await?.stop().await?;
    let slots = "SELECT pg_create_logical_replication_slot('before', 'pgoutput'), \
                 pg_create_logical_replication_slot('after', 'pgoutput')";
    stage.value(slots)?;
    fill(&stage).await?;
    let end = stage.value("SELECT pg_current_wal_lsn()")?;

    // The reference runs before and after, for the machine's speed drifts.
    let before = receive_only(&stage, "before", &end).await?;
    let (relayed, memory, cpu) = relay(&stage).await?;
    let after = receive_only(&stage, "after", &end).await?;
    let reference = (before + after) / 2;

    let rate = |took: Duration| f64::from(ROWS) / took.as_secs_f64();
    let ratio = rate(relayed) / rate(reference);
    figures.add("relay_per_s", format!("{:.0}", rate(relayed)));
    figures.add("receive_only_per_s", format!("{:.0}", rate(reference)));
    figures.add("ratio", format!("{ratio:.2}"));
    figures.add("peak_mib", memory / 1024);
    figures.add("relay_cpu_s", format!("{cpu:.1}"));
    ensure!(memory < MEMORY_KIB_MAX, "peak memory {memory} KiB");
    ensure!(
        ratio >= RATIO_MIN,
        "only {ratio:.2} of the receive-only rate"
    );
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}

async fn fill(stage: &Stage) -> Result<()> {
    let sql = format!(
        "DO $$ BEGIN PERFORM set_config('synchronous_commit', 'off', false); \
         FOR i IN 1..{ROWS} LOOP \
           INSERT INTO outbox (event_type, transfer_id, payload) VALUES ( \
             'transfers.settled', 't-' || i % 1000, \
             jsonb_build_object('n', i, 'pad', repeat('x', 300))); \
           COMMIT; \
         END LOOP; END $$"
    );
    let postgres = std::sync::Arc::clone(&stage.postgres);
    tokio::task::spawn_blocking(move || postgres.sql(DATABASE, &sql)).await??;
    Ok(())
}

/// From the start of the process to the last commit in Kafka; peak memory and CPU seconds.
async fn relay(stage: &Stage) -> Result<(Duration, u64, f64)> {
    let began = Instant::now();
    let relay = stage.launch(&[])?;
    published(&relay, f64::from(ROWS), DRAINED_WITHIN).await?;
    let took = began.elapsed();
    let memory = relay.vm_hwm_kib()?;
    let cpu = testbed::cpu_seconds(relay.program().pid())?;
    relay.stop().await?;
    Ok((took, memory, cpu))
}

/// Waits until so many events are durable in Kafka.
pub(super) async fn published(relay: &Relay, events: f64, within: Duration) -> Result<()> {
    wait::until("everything is published", within, async || {
        let count = relay.count("outboxd_events_published_total", "");
        Ok(count.is_ok_and(|count| count >= events))
    })
    .await
    .with_context(|| relay.log_text())?;
    Ok(())
}

/// A client that reads the same WAL from the same server and throws it away.
async fn receive_only(stage: &Stage, slot: &str, end: &str) -> Result<Duration> {
    let end = Lsn::parse(end)?;
    let config = ReplicationConfig::new(
        stage.postgres.host(),
        testbed::SUPERUSER,
        testbed::PASSWORD,
        DATABASE,
        slot,
        "outboxd",
    )
    .with_port(stage.postgres.port())
    .with_status_interval(Duration::from_secs(1));
    let began = Instant::now();
    let mut client = ReplicationClient::connect(config).await?;
    while let Some(event) = client.recv().await? {
        let reached = match event {
            ReplicationEvent::Commit { end_lsn, .. } => end_lsn,
            ReplicationEvent::KeepAlive { wal_end, .. } => wal_end,
            _ => continue,
        };
        if reached >= end {
            client.abort();
            return Ok(began.elapsed());
        }
    }
    anyhow::bail!("the stream ended early")
}
