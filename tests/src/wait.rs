//! Waiting for a condition, within a bound.
//!
//! Bounds are for a machine with nothing else to do. Where several scenarios run beside each other, each is as
//! many times slower at worst, and as much more patient.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const STEP: Duration = Duration::from_millis(20);
/// Most looks open a connection to the database: a machine that is waited for is not to be busy with that.
const STEP_MAX: Duration = Duration::from_millis(250);
/// A wait is at most this part longer than it need be.
const COARSENESS: u32 = 20;

/// How many scenarios run beside each other, set by whoever starts them; one without.
pub const BESIDE_EACH_OTHER: &str = "SCENARIOS_BESIDE_EACH_OTHER";

/// What bounds are multiplied by.
pub fn patience() -> u32 {
    static PATIENCE: OnceLock<u32> = OnceLock::new();
    *PATIENCE.get_or_init(|| {
        let set = std::env::var(BESIDE_EACH_OTHER).ok();
        set.and_then(|set| set.parse().ok()).unwrap_or(1)
    })
}

/// Waits until `condition` holds; `what` names it in the error.
pub async fn until(
    what: &str,
    within: Duration,
    mut condition: impl AsyncFnMut() -> Result<bool>,
) -> Result<Duration> {
    let (began, within) = (Instant::now(), within * patience());
    loop {
        if condition().await? {
            return Ok(began.elapsed());
        }
        if began.elapsed() > within {
            bail!("{what}: not within {within:?}");
        }
        let step = began.elapsed() / COARSENESS;
        tokio::time::sleep(step.clamp(STEP, STEP_MAX)).await;
    }
}
