//! `make chaos`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use scenarios::chaos::{self, Plan};

const CYCLES: u32 = 20;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            println!("chaos: FAILED {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// A variable of the environment; empty counts as unset.
fn variable<T: std::str::FromStr>(name: &str) -> Result<Option<T>> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    let parse = |text: String| text.parse().ok().with_context(|| format!("{name}={text}?"));
    value.map(parse).transpose()
}

async fn run() -> Result<bool> {
    let time: Option<u64> = variable("CHAOS_SECONDS")?;
    let cycles: Option<u32> = variable("CYCLES")?;
    let plan = Plan {
        mode: variable("MODE")?.unwrap_or_else(|| "exactly-once".to_owned()),
        concurrency: variable("CONCURRENCY")?.unwrap_or(2),
        cycles: cycles.unwrap_or(if time.is_some() { 1 } else { CYCLES }),
        time: time.map(Duration::from_secs),
        seed: variable("SEED")?.unwrap_or_else(|| fastrand::u64(..)),
        postgres: variable("PG")?.unwrap_or(18),
    };
    println!("seed {}, Postgres {}", plan.seed, plan.postgres);
    let outcome = chaos::run(plan).await?;
    println!(
        "kills with committed rows unpublished: {}",
        outcome.in_mid_flight
    );
    for example in &outcome.verdict.examples {
        println!("  {example}");
    }
    println!("{outcome}");
    Ok(outcome.is_good())
}
