//! What a loud stop is. Not a scenario: several use it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::misconfiguration::run_says;
use crate::reader::Reader;
use crate::relay::Relay;
use crate::stage::{Stage, TOPICS};
use crate::wait;

/// A stopped pipeline looks again every 5 s.
const LOOKS_WITHIN: Duration = Duration::from_secs(40);

/// Committed records of all event topics.
pub(super) fn records(stage: &Stage) -> Result<usize> {
    let mut records = 0;
    Reader::open(&stage.kafka.bootstrap(), &TOPICS)?.drain(|_| records += 1)?;
    Ok(records)
}

/// A relay that has published and confirmed what there is, and a few events more.
pub(super) async fn flowing(stage: &Stage, flags: &[&str]) -> Result<Relay> {
    let relay = stage.relay(flags).await?;
    stage.insert(3)?;
    stage.caught_up(&relay).await?;
    Ok(relay)
}

/// The relay stops with this code, and stays stopped when it looks again: the slot is where it
/// was, and nothing is published.
pub(super) async fn stops(stage: &Stage, relay: &Relay, code: &str) -> Result<()> {
    run_says(relay, code, "stopped").await?;
    // What it confirmed before may still be on its way into the slot.
    stage.slot_free().await?;
    let (confirmed, published) = (stage.confirmed()?, records(stage)?);
    looks_again(relay, code).await?;
    ensure!(stage.confirmed()? == confirmed, "the slot has moved on");
    ensure!(records(stage)? == published, "it went on publishing");
    Ok(())
}

/// Waits until the stopped pipeline has gone through its start once more, with the same outcome.
async fn looks_again(relay: &Relay, code: &str) -> Result<()> {
    let (mut age, mut looks) = (0.0, 0);
    wait::until("it looks again", LOOKS_WITHIN, async || {
        let status = relay.json("/status")?;
        let pipeline = &status["pipelines"][0];
        if pipeline["last_failure"]["code"] != code {
            bail!("it does not stay stopped by {code}: {status}");
        }
        // Also while it looks, and streams until it comes to what stopped it.
        if pipeline["state"] != "stopped" || pipeline["ready"] != false {
            bail!("it does not say that it is stopped while it looks again: {status}");
        }
        let seconds = pipeline["last_failure"]["seconds_ago"].as_f64();
        let seconds = seconds.context("no age")?;
        looks += u32::from(seconds < age);
        age = seconds;
        Ok(looks == 1)
    })
    .await
    .with_context(|| relay.log_text())?;
    Ok(())
}
