//! Waiting for a condition, within a bound.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const STEP: Duration = Duration::from_millis(20);

/// Waits until `condition` holds; `what` names it in the error.
pub async fn until(
    what: &str,
    within: Duration,
    mut condition: impl AsyncFnMut() -> Result<bool>,
) -> Result<Duration> {
    let began = Instant::now();
    loop {
        if condition().await? {
            return Ok(began.elapsed());
        }
        if began.elapsed() > within {
            bail!("{what}: not within {within:?}");
        }
        tokio::time::sleep(STEP).await;
    }
}
