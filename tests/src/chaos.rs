//! Lets faults strike at random moments while services write, and compares table and topics at
//! the end.
//!
//! ```text
//!  writers ─► Postgres ─► proxy ─► relay (killed, frozen, followed by others) ─► proxy ─► Kafka
//!                └────────────────────── oracle: rows against records ─────────────────────┘
//! ```

mod burst;
mod deck;
mod fault;
mod life;
mod scene;
mod strike;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::oracle::{self, States, Verdict};
use crate::reader::{Isolation, Reader};
use crate::stage::{Stage, TOPICS};
use crate::wait;
use crate::writer::Writers;

pub use fault::Fault;
pub use scene::Evidence;

use deck::Deck;
use life::{Life, Lives};
use scene::Scene;
use strike::Strike;

const WRITERS: u64 = 4;
const WRITER_PAUSE: Duration = Duration::from_millis(8);
/// So many of the rows can't be published.
const BAD_IN_10K: u32 = 50;
const CATCH_UP_WITHIN: Duration = Duration::from_secs(180);
/// Start-up takes a little less.
const START_MS_MAX: u64 = 900;
const FLOWING_MS_MAX: u64 = 1500;
/// No relay may take more memory, whatever rows and faults come (contract C6).
const MEMORY_KIB: u64 = 256 << 10;
/// A broker of a cluster.
const SMALL_HEAP_MB: u32 = 384;

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `exactly-once` or `at-least-once`.
    pub mode: String,
    /// Size of the producer ring; without it every relay has another one.
    pub concurrency: Option<u32>,
    /// At least so many faults.
    pub cycles: u32,
    /// At least so many of every kind.
    pub each: u32,
    /// Goes on for this long.
    pub time: Duration,
    /// The kinds of fault.
    pub faults: Vec<Fault>,
    /// Of the random choices.
    pub seed: u64,
    /// Major version of the database server.
    pub postgres: u32,
    /// Brokers of the cluster.
    pub brokers: u32,
    /// How long an outage lasts.
    pub outage: Duration,
}

/// What came of it.
pub struct Outcome {
    plan: Plan,
    faults: u32,
    /// What the faults hit.
    pub evidence: Evidence,
    /// The comparison at the end.
    pub verdict: Verdict,
    /// What was written back.
    pub states: States,
}

impl Outcome {
    /// Whether the guarantee of the mode was kept, within the bound of memory.
    pub fn is_good(&self) -> bool {
        let delivered = match self.repeats_are_allowed() {
            true => self.verdict.is_complete(),
            false => self.verdict.is_exact(),
        };
        let written_back = self.states.pending == 0
            && self.states.wrong == 0
            && self.states.failed.unsigned_abs() == self.verdict.dead;
        delivered && written_back && self.evidence.peak_kib < MEMORY_KIB
    }

    /// Some of what breaks the guarantee.
    pub fn breaches(&self) -> impl Iterator<Item = &String> {
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
            mode,
            postgres,
            brokers,
            ..
        } = &self.plan;
        let (faults, each, verdict) = (self.faults, self.evidence.least(), &self.verdict);
        let states = self.states;
        write!(
            f,
            "chaos: mode={mode} postgres={postgres} brokers={brokers} faults={faults} each>={each} {verdict} {states}"
        )
    }
}

/// Runs the plan.
pub async fn run(plan: Plan) -> Result<Outcome> {
    let stage = set_up(&plan).await?;
    let writers =
        Writers::with_bad_rows(&stage.url(), WRITERS, WRITER_PAUSE, plan.seed, BAD_IN_10K);
    let mut run = Run {
        random: fastrand::Rng::with_seed(plan.seed),
        lives: Lives::new(&plan.mode, plan.concurrency),
        evidence: Evidence::new(&plan.faults),
        outage: plan.outage,
        relay: None,
    };
    let mut deck = Deck::new(plan.faults.clone());
    let began = Instant::now();
    let mut faults = 0;
    while faults < plan.cycles || run.evidence.least() < plan.each || began.elapsed() < plan.time {
        faults += 1;
        let fault = deck.deal(&mut run.random).context("no faults")?;
        let struck = run.cycle(&stage, fault).await;
        struck.with_context(|| format!("fault {faults}, {}", fault.name()))?;
        eprintln!(
            "{:>6} s: {faults} {}",
            began.elapsed().as_secs(),
            fault.name()
        );
    }
    writers.stop().await?;
    let mut evidence = run.settle(&stage).await?;
    let verdict = oracle::judge(&stage).await?;
    let states = oracle::states(&stage).await?;
    ensure!(verdict.rows > 0, "nothing was written");
    ensure!(evidence.is_telling(), "this run proves little: {evidence}");
    evidence.aborted_records = produced(&stage)?.saturating_sub(verdict.records - verdict.dead);
    Ok(Outcome {
        plan,
        faults,
        evidence,
        verdict,
        states,
    })
}

async fn set_up(plan: &Plan) -> Result<Stage> {
    let builder = Stage::builder()
        .postgres(|postgres| postgres.version(plan.postgres))
        .brokers(plan.brokers)
        .proxied();
    let builder = match plan.brokers {
        1 => builder,
        _ => builder.kafka(|kafka| kafka.heap_mb(SMALL_HEAP_MB)),
    };
    builder.start().await
}

/// What a run goes on with from fault to fault.
struct Run {
    random: fastrand::Rng,
    lives: Lives,
    evidence: Evidence,
    outage: Duration,
    /// Left alive by the last fault.
    relay: Option<Life>,
}

impl Run {
    /// Waits for a moment to strike, notes what is going on, and strikes.
    async fn cycle(&mut self, stage: &Stage, fault: Fault) -> Result<()> {
        let (relay, fresh) = match self.relay.take() {
            Some(relay) => (relay, false),
            None => (self.lives.begin(stage, &mut self.random)?, true),
        };
        self.moment(&relay, fresh).await?;
        ensure!(
            relay.program().exit_status().is_none(),
            "the relay ended by itself:\n{}",
            relay.log_text()
        );
        let scene = look(&relay);
        self.evidence.add(fault, &scene);
        let mut strike = Strike {
            stage,
            lives: &mut self.lives,
            random: &mut self.random,
            outage: self.outage,
        };
        self.relay = strike.run(fault, relay).await?;
        if self.relay.is_none() {
            let open = reader(stage, Isolation::Committed)?.sees_open_transaction()?;
            self.evidence.in_transaction += u32::from(open);
        }
        Ok(())
    }

    /// Half of the faults hit a fresh relay at its start: connecting, fencing, catching up.
    async fn moment(&mut self, relay: &Life, fresh: bool) -> Result<()> {
        let most = match fresh && self.random.bool() {
            true => START_MS_MAX,
            false => {
                relay.ready().await?;
                FLOWING_MS_MAX
            }
        };
        // The moment of the fault is the experiment, not a wait for something.
        tokio::time::sleep(Duration::from_millis(self.random.u64(0..most))).await;
        Ok(())
    }

    /// A last relay publishes what is left, and ends.
    async fn settle(mut self, stage: &Stage) -> Result<Evidence> {
        let end = stage.value("SELECT pg_current_wal_lsn()")?;
        if let Some(relay) = self.relay.take() {
            self.lives.retire(relay).await?;
        }
        let relay = self.lives.begin_last(stage)?;
        let confirmed = format!("SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots");
        let caught_up = wait::until("everything is confirmed", CATCH_UP_WITHIN, async || {
            Ok(stage.value(&confirmed)? == "t")
        });
        caught_up.await.with_context(|| relay.log_text())?;
        self.lives.retire(relay).await?;
        self.evidence.lives = self.lives.begun;
        self.evidence.peak_kib = self.lives.peak_kib;
        Ok(self.evidence)
    }
}

fn look(relay: &Life) -> Scene {
    // Early in its life the relay does not answer.
    let published = relay.count("outboxd_events_published_total", "");
    let backlog = relay.count("event_outbox_backlog", "");
    Scene {
        streaming: relay.log_text().contains("\"streaming\""),
        published: published.is_ok_and(|events| events > 0.0),
        behind: backlog.is_ok_and(|events| events > 0.0),
    }
}

/// Every record in the topics, also of aborted transactions.
fn produced(stage: &Stage) -> Result<u64> {
    let mut records = 0;
    reader(stage, Isolation::Uncommitted)?.drain(|_| records += 1)?;
    Ok(records)
}

fn reader(stage: &Stage, isolation: Isolation) -> Result<Reader> {
    Reader::open_at(&stage.bootstrap(), &TOPICS, isolation)
}
