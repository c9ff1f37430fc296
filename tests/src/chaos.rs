//! Kills the relay at random moments, or lets other faults strike, while services write, and
//! compares at the end.

mod fault;
mod scene;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::oracle::{self, Verdict};
use crate::reader::{Isolation, Reader};
use crate::relay::Relay;
use crate::stage::{Stage, TOPICS};
use crate::wait;
use crate::writer::Writers;

pub use fault::Fault;
pub use scene::Evidence;

use fault::Moment;
use scene::Scene;

const WRITERS: u64 = 4;
const WRITER_PAUSE: Duration = Duration::from_millis(4);
const CATCH_UP_WITHIN: Duration = Duration::from_secs(120);

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `exactly-once` or `at-least-once`.
    pub mode: String,
    /// Size of the producer ring.
    pub concurrency: u32,
    /// Faults; with `time`, at least so many.
    pub cycles: u32,
    /// Goes on for this long.
    pub time: Option<Duration>,
    /// What strikes, one of them in each cycle.
    pub faults: Vec<Fault>,
    /// Of the random choices.
    pub seed: u64,
    /// Major version of the database server.
    pub postgres: u32,
}

/// What came of it.
pub struct Outcome {
    plan: Plan,
    cycles: u32,
    /// What the faults hit.
    pub evidence: Evidence,
    /// The comparison at the end.
    pub verdict: Verdict,
}

impl Outcome {
    /// Whether the guarantee of the mode was kept.
    pub fn is_good(&self) -> bool {
        match self.repeats_are_allowed() {
            true => self.verdict.is_complete(),
            false => self.verdict.is_exact(),
        }
    }

    /// Some of what breaks the guarantee.
    pub fn faults(&self) -> impl Iterator<Item = &String> {
        let Verdict {
            examples, repeats, ..
        } = &self.verdict;
        let repeats = repeats.iter().filter(|_| !self.repeats_are_allowed());
        examples.iter().chain(repeats)
    }

    fn repeats_are_allowed(&self) -> bool {
        self.plan.mode == "at-least-once"
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
    let writers = Writers::seeded(&stage.url(), WRITERS, WRITER_PAUSE, plan.seed);
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut evidence = Evidence::default();
    let began = Instant::now();
    let mut cycles = 0;
    while cycles < plan.cycles || plan.time.is_some_and(|time| began.elapsed() < time) {
        cycles += 1;
        let fault = *random.choice(&plan.faults).context("no faults")?;
        let scene = cycle(&stage, &plan, fault, &mut random).await;
        let scene = scene.with_context(|| format!("cycle {cycles}, {fault:?}"))?;
        evidence.add(&scene);
    }
    writers.stop().await?;
    settle(&stage, &plan).await?;
    let verdict = oracle::judge(&stage).await?;
    ensure!(verdict.rows > 0, "nothing was written");
    ensure!(evidence.is_telling(), "this run proves little: {evidence}");
    evidence.aborted_records = produced(&stage)?.saturating_sub(verdict.records);
    Ok(Outcome {
        plan,
        cycles,
        evidence,
        verdict,
    })
}

fn launch(stage: &Stage, plan: &Plan) -> Result<Relay> {
    let concurrency = plan.concurrency.to_string();
    stage.launch(&["--mode", &plan.mode, "--concurrency", &concurrency])
}

/// One life of a relay.
async fn cycle(
    stage: &Stage,
    plan: &Plan,
    fault: Fault,
    random: &mut fastrand::Rng,
) -> Result<Scene> {
    let relay = launch(stage, plan)?;
    let delay = match Moment::choose(random) {
        Moment::AfterStart(delay) => delay,
        Moment::AfterReady(delay) => {
            relay.ready().await?;
            delay
        }
    };
    // The moment of the fault is the experiment, not a wait for something.
    tokio::time::sleep(delay).await;
    // Early in its life the relay does not answer.
    let published = relay.count("outboxd_events_published_total", "");
    let backlog = relay.count("event_outbox_backlog", "");
    let streaming = relay.log_text().contains("\"streaming\"");
    ensure!(
        relay.program().exit_status().is_none(),
        "the relay ended by itself:\n{}",
        relay.log_text()
    );
    fault.strike(stage, &relay, || launch(stage, plan)).await?;
    Ok(Scene {
        streaming,
        published: published.is_ok_and(|events| events > 0.0),
        behind: backlog.is_ok_and(|events| events > 0.0),
        transaction_open: reader(stage, Isolation::Committed)?.sees_open_transaction()?,
    })
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

/// Every record in the topics, also of aborted transactions.
fn produced(stage: &Stage) -> Result<u64> {
    let mut records = 0;
    reader(stage, Isolation::Uncommitted)?.drain(|_| records += 1)?;
    Ok(records)
}

fn reader(stage: &Stage, isolation: Isolation) -> Result<Reader> {
    Reader::open_at(&stage.kafka.bootstrap(), &TOPICS, isolation)
}
