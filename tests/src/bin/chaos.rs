//! `make chaos`. The environment decides, see `make help`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use scenarios::chaos::{self, Fault, Plan};
use scenarios::evidence;

const CYCLES: u32 = 20;
/// With `CHAOS_SECONDS`, at least so many of every kind.
const EACH: u32 = 5;
const OUTAGE_SECONDS: u64 = 20;
const MODES: [&str; 2] = ["exactly-once", "at-least-once"];

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = run().await;
    evidence::settle(!matches!(outcome, Ok(true)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            // With logs in between.
            eprintln!("{e:#}");
            let cause = e.root_cause().to_string();
            println!("chaos: FAILED {}", cause.lines().next().unwrap_or_default());
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

fn plan() -> Result<Plan> {
    let time: Option<u64> = variable("CHAOS_SECONDS")?;
    let cycles: Option<u32> = variable("CYCLES")?;
    let mode: String = variable("MODE")?.unwrap_or_else(|| MODES[0].to_owned());
    ensure!(
        MODES.contains(&mode.as_str()),
        "MODE={mode}? say one of {MODES:?}"
    );
    let brokers = variable("BROKERS")?.unwrap_or(1);
    let faults: Option<String> = variable("FAULTS")?;
    let faults: Result<Vec<Fault>> = match faults {
        Some(names) => names.split(',').map(str::parse).collect(),
        None => Ok(Fault::all(brokers)),
    };
    let by_time = time.is_some();
    let outage = variable("OUTAGE_SECONDS")?.unwrap_or(OUTAGE_SECONDS);
    Ok(Plan {
        mode,
        faults: faults?,
        concurrency: variable("CONCURRENCY")?,
        cycles: cycles.unwrap_or(if by_time { 1 } else { CYCLES }),
        each: variable("EACH")?.unwrap_or(if by_time { EACH } else { 0 }),
        time: Duration::from_secs(time.unwrap_or(0)),
        seed: variable("SEED")?.unwrap_or_else(|| fastrand::u64(..)),
        postgres: variable("PG")?.unwrap_or(18),
        brokers,
        outage: Duration::from_secs(outage),
    })
}

async fn run() -> Result<bool> {
    let plan = plan()?;
    println!("seed {}, Postgres {}", plan.seed, plan.postgres);
    let outcome = chaos::run(plan).await?;
    println!("{}", outcome.evidence);
    for breach in outcome.breaches() {
        println!("  {breach}");
    }
    println!("{outcome}");
    Ok(outcome.is_good())
}
