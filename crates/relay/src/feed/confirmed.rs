//! Waiting until the relay is past a point of the WAL.

use std::time::{Duration, Instant};

use pgoutput::Lsn;

use super::Connection;
use crate::failure::Failure;

const POLL: Duration = Duration::from_millis(200);

/// Waits until the slot is confirmed up to `lsn` or beyond: everything that commits before is published
/// then, and its rows have their states. `false` if it is not within the time.
pub async fn confirmed(
    connection: &Connection,
    slot: &str,
    lsn: Lsn,
    patience: Duration,
) -> Result<bool, Failure> {
    let deadline = Instant::now() + patience;
    loop {
        let usage = connection.slot_use(slot).await?;
        if usage.confirmed_flush.is_some_and(|flushed| flushed >= lsn) {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(POLL).await;
    }
}
