//! One transaction of a million rows.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::backlog::{MEMORY_KIB_MAX, published};
use crate::oracle;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "large-transaction",
    about: "a transaction of 1,000,000 rows, with the relay's peak memory under 64 MiB",
    group: Group::Alone,
    within: Duration::from_secs(400),
    run: |figures| Box::pin(run(figures)),
};

const ROWS: u32 = 1_000_000;
const PUBLISHED_WITHIN: Duration = Duration::from_secs(200);

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .postgres(|p| p.setting("max_wal_size", "4GB"))
        .start()
        .await?;
    let relay = stage.relay(&[]).await?;
    let sql = format!(
        "INSERT INTO outbox (event_type, transfer_id, payload) \
         SELECT 'transfers.settled', 't-' || i % 1000, \
                jsonb_build_object('n', i, 'pad', repeat('x', 300)) \
         FROM generate_series(1, {ROWS}) i"
    );
    let postgres = std::sync::Arc::clone(&stage.postgres);
    tokio::task::spawn_blocking(move || postgres.sql(DATABASE, &sql)).await??;
    let committed = Instant::now();
    published(&relay, f64::from(ROWS), PUBLISHED_WITHIN).await?;
    figures.add(
        "seconds",
        format!("{:.1}", committed.elapsed().as_secs_f64()),
    );
    let memory = relay.vm_hwm_kib()?;
    figures.add("peak_mib", memory / 1024);
    relay.stop().await?;
    ensure!(memory < MEMORY_KIB_MAX, "peak memory {memory} KiB");
    let verdict = oracle::require_exact(&stage).await?;
    figures.add("rows", verdict.rows);
    Ok(())
}
