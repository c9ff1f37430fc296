//! Rows as large as Kafka takes by default.

use anyhow::Result;
use futures_util::future::try_join_all;

use crate::stage::{Stage, TOPICS};

/// What the brokers take meanwhile: a few such rows a second.
pub(super) const BYTES_PER_S: u64 = 8_000_000;

const TRANSACTIONS: usize = 3;
const ROWS: usize = 20;
/// With its envelope just below 1 MB, librdkafka's `message.max.bytes`.
const CHARACTERS: usize = 980_000;

/// Writes more than a relay may ever hold, in transactions that run side by side.
pub(super) async fn write(stage: &Stage) -> Result<()> {
    let transactions = (0..TRANSACTIONS).map(|_| transaction(stage));
    try_join_all(transactions).await.map(drop)
}

async fn transaction(stage: &Stage) -> Result<()> {
    let topic = TOPICS[0];
    let sql = format!(
        "INSERT INTO outbox (event_type, payload) \
         SELECT '{topic}', jsonb_build_object('large', repeat('x', {CHARACTERS})) \
         FROM generate_series(1, {ROWS})"
    );
    let client = stage.client().await?;
    client.execute(&sql, &[]).await?;
    Ok(())
}
