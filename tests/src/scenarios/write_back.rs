//! What the table says of its rows after faults: all of it, and nothing else.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::chaos::{self, Fault, Plan};
use crate::scenario::{Figures, Group, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "write-back",
    about: "after faults every published row is SENT, every dead-lettered one FAILED, none PENDING",
    group: Group::Proof,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(run(figures)),
};

/// What cuts the write-back off in its middle, from every side.
const FAULTS: [&str; 6] = [
    "relay-kill",
    "postgres-immediate",
    "relay-kill",
    "postgres-cut",
    "postgres-freeze",
    "relay-kill",
];

async fn run(figures: &mut Figures) -> Result<()> {
    let faults: Result<Vec<Fault>> = FAULTS.iter().map(|name| name.parse()).collect();
    let plan = Plan {
        mode: "exactly-once".to_owned(),
        concurrency: None,
        cycles: u32::try_from(FAULTS.len())?,
        each: 0,
        time: Duration::ZERO,
        faults: faults?,
        seed: fastrand::u64(..),
        postgres: 18,
        brokers: 1,
        outage: Duration::from_secs(5),
    };
    let outcome = chaos::run(plan).await?;
    ensure!(outcome.is_good(), "{outcome}");
    ensure!(outcome.verdict.dead > 0, "no row was bad: {outcome}");
    figures.add("rows", outcome.verdict.rows);
    figures.add("states", outcome.states);
    Ok(())
}
