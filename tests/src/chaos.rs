//! Kills the relay at random moments while services write, and compares at the end.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::oracle::{self, Verdict};
use crate::relay::Relay;
use crate::stage::Stage;
use crate::wait;
use crate::writer::Writers;

const WRITERS: u64 = 4;
const WRITER_PAUSE: Duration = Duration::from_millis(4);
/// A relay lives this long at most; start-up takes about half of it.
const LIFE_MS_MAX: u64 = 1800;
const CATCH_UP_WITHIN: Duration = Duration::from_secs(120);

/// What is done to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL at a random moment after its start.
    Kill9,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `exactly-once` or `at-least-once`.
    pub mode: String,
    /// Size of the producer ring.
    pub concurrency: u32,
    /// Kills; with `time`, at least so many.
    pub cycles: u32,
    /// Goes on for this long.
    pub time: Option<Duration>,
    /// Of the random moments.
    pub seed: u64,
    /// Major version of the database server.
    pub postgres: u32,
}

/// What came of it.
pub struct Outcome {
    plan: Plan,
    cycles: u32,
    /// Kills while committed rows were not published yet.
    pub in_mid_flight: u32,
    /// The comparison at the end.
    pub verdict: Verdict,
}

impl Outcome {
    /// Whether the guarantee of the mode was kept.
    pub fn is_good(&self) -> bool {
        match self.plan.mode.as_str() {
            "exactly-once" => self.verdict.is_exact(),
            _ => self.verdict.is_complete(),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            mode, concurrency, ..
        } = &self.plan;
        let (cycles, verdict) = (self.cycles, &self.verdict);
        write!(
            f,
            "chaos: mode={mode} concurrency={concurrency} cycles={cycles} {verdict}"
        )
    }
}

/// Runs the plan.
pub async fn run(plan: Plan) -> Result<Outcome> {
    let version = plan.postgres;
    let stage = Stage::builder()
        .postgres(|p| p.version(version))
        .start()
        .await?;
    let writers = Writers::start(&stage.url(), WRITERS, WRITER_PAUSE);
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let began = Instant::now();
    let (mut cycles, mut in_mid_flight) = (0, 0);
    while cycles < plan.cycles || plan.time.is_some_and(|time| began.elapsed() < time) {
        let fault = Fault::Kill9;
        in_mid_flight += u32::from(cycle(&stage, &plan, fault, &mut random).await?);
        cycles += 1;
    }
    writers.stop().await?;
    settle(&stage, &plan).await?;
    let verdict = oracle::judge(&stage).await?;
    ensure!(verdict.rows > 0, "nothing was written");
    Ok(Outcome {
        plan,
        cycles,
        in_mid_flight,
        verdict,
    })
}

fn launch(stage: &Stage, plan: &Plan) -> Result<Relay> {
    let concurrency = plan.concurrency.to_string();
    stage.launch(&["--mode", &plan.mode, "--concurrency", &concurrency])
}

/// One life of a relay; returns whether it was killed with rows still to be published.
async fn cycle(
    stage: &Stage,
    plan: &Plan,
    fault: Fault,
    random: &mut fastrand::Rng,
) -> Result<bool> {
    let relay = launch(stage, plan)?;
    // The moment of the fault is the experiment, not a wait for something.
    tokio::time::sleep(Duration::from_millis(random.u64(0..LIFE_MS_MAX))).await;
    ensure!(
        relay.program().exit_status().is_none(),
        "the relay ended by itself"
    );
    match fault {
        Fault::Kill9 => relay.program().kill9(),
    }
    let waiting = "SELECT pg_current_wal_lsn() > confirmed_flush_lsn FROM pg_replication_slots";
    Ok(stage.value(waiting)? == "t")
}

/// A last relay publishes what is left, and ends.
async fn settle(stage: &Stage, plan: &Plan) -> Result<()> {
    let end = stage.value("SELECT pg_current_wal_lsn()")?;
    let relay = launch(stage, plan)?;
    let confirmed = format!("SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots");
    let caught_up = wait::until("everything is confirmed", CATCH_UP_WITHIN, async || {
        Ok(stage.value(&confirmed)? == "t")
    });
    caught_up.await.with_context(|| relay.log_text())?;
    relay.stop().await?;
    Ok(())
}
