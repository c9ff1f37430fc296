//! The bank of the examples while relay, ledger and brokers are killed: its books agree in the end.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinHandle;

use crate::bank::{self, Books, Consumers, DEAD_LETTERS, TOPICS};
use crate::reader::Reader;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "ledger",
    about: "money moved while relay, ledger and brokers are killed for 2 minutes: the ledger's sum is the transfers', each entry once",
    group: Group::Alone,
    within: Duration::from_secs(420),
    run: |figures| Box::pin(run(figures, Duration::from_secs(120))),
};

pub(super) const SHORT: Scenario = Scenario {
    name: "ledger-short",
    about: "as ledger, for 20 s",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures, Duration::from_secs(20))),
};

/// Transactions a second.
const RATE: f64 = 200.0;
const BROKERS: u32 = 3;
/// Of each broker.
const HEAP_MB: u32 = 384;
/// Between two kills.
const PAUSE_MS: std::ops::Range<u64> = 200..2_500;
const EVEN_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Relay,
    Ledger,
    Broker,
}

/// How often each was killed.
#[derive(Debug, Default)]
struct Kills {
    relay: u32,
    ledger: u32,
    broker: u32,
}

impl Kills {
    fn are_telling(&self) -> bool {
        self.relay > 0 && self.ledger > 0 && self.broker > 0
    }
}

impl fmt::Display for Kills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            relay,
            ledger,
            broker,
        } = self;
        write!(f, "relay:{relay},ledger:{ledger},broker:{broker}")
    }
}

async fn run(figures: &mut Figures, faults: Duration) -> Result<()> {
    let seed = std::env::var("SEED").ok().map(|seed| seed.parse::<u64>());
    let seed = seed.transpose().context("SEED")?;
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    figures.add("seed", seed);

    let builder = Stage::builder().brokers(BROKERS).bare();
    let stage = builder
        .kafka(|kafka| kafka.heap_mb(HEAP_MB))
        .start()
        .await?;
    let topics: Vec<_> = TOPICS.iter().flat_map(|topic| ["--topic", topic]).collect();
    stage.init(&topics)?;
    bank::prepare(&stage).await?;
    let relay = stage.relay(&[]).await?;
    let consumers = bank::start_consumers(&stage, &stage.url())?;
    let transfers = bank::start_transfers(&stage, &stage.url(), RATE)?;

    let mut siege = Siege {
        stage: &stage,
        random: fastrand::Rng::with_seed(seed),
        relay,
        consumers,
        returning: None,
        kills: Kills::default(),
    };
    siege.last(faults).await?;
    transfers.stop()?;
    let (books, kills) = siege.settle().await?;
    figures.add("kills", &kills);
    figures.add("transfers", books.settled);
    figures.add("entries", books.entries);
    figures.add("dead", books.dead);
    ensure!(kills.are_telling(), "nothing was proven: {kills}");
    ensure!(books.settled > 0 && books.are_even(), "{books}");
    each_row_once(&stage)
}

/// The inbox would hide what the relay publishes twice.
fn each_row_once(stage: &Stage) -> Result<()> {
    let (mut records, mut ids) = (0, HashSet::new());
    Reader::open(&stage.bootstrap(), &TOPICS)?.drain(|seen| {
        records += 1;
        ids.insert(seen.event_id);
    })?;
    let rows: usize = stage.value("SELECT count(*) FROM outbox")?.parse()?;
    let once = records == rows && ids.len() == rows;
    ensure!(
        once,
        "{rows} rows, {records} records of {} events",
        ids.len()
    );
    Ok(())
}

/// Kills at random, and starts again.
struct Siege<'a> {
    stage: &'a Stage,
    random: fastrand::Rng,
    relay: Relay,
    consumers: Consumers,
    /// The broker that is on its way back. The others are a majority.
    returning: Option<JoinHandle<testbed::Result<()>>>,
    kills: Kills,
}

impl Siege<'_> {
    async fn last(&mut self, faults: Duration) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < faults {
            // The moment of a kill is the experiment, not a wait for something.
            tokio::time::sleep(Duration::from_millis(self.random.u64(PAUSE_MS))).await;
            let victim = self.choose();
            eprintln!("{:>6} ms: kill -9, {victim:?}", began.elapsed().as_millis());
            match victim {
                Victim::Relay => {
                    self.kills.relay += 1;
                    self.relay.program().kill9();
                    self.relay = self.stage.launch(&[])?;
                }
                Victim::Ledger => {
                    self.kills.ledger += 1;
                    self.consumers.ledger.kill9();
                    self.consumers.ledger.keep_alive()?;
                }
                Victim::Broker => self.kill_broker().await?,
            }
        }
        self.broker_is_back().await
    }

    fn choose(&mut self) -> Victim {
        match self.random.u8(..3) {
            0 => Victim::Relay,
            1 => Victim::Ledger,
            _ => Victim::Broker,
        }
    }

    /// It comes back while others are killed.
    async fn kill_broker(&mut self) -> Result<()> {
        self.broker_is_back().await?;
        self.kills.broker += 1;
        let broker = self
            .random
            .choice(&self.stage.brokers)
            .context("no broker")?;
        let broker = Arc::clone(broker);
        let restart = move || broker.kill9().and_then(|()| broker.start_again());
        self.returning = Some(tokio::task::spawn_blocking(restart));
        Ok(())
    }

    async fn broker_is_back(&mut self) -> Result<()> {
        match self.returning.take() {
            Some(returning) => Ok(returning.await??),
            None => Ok(()),
        }
    }

    /// Waits until the books agree, ends the consumers, and reads them again.
    async fn settle(mut self) -> Result<(Books, Kills)> {
        let letters = Reader::open(&self.stage.bootstrap(), &[DEAD_LETTERS])?;
        // A crash may write a dead letter twice.
        let mut dead = HashSet::new();
        let began = Instant::now();
        loop {
            while let Some(seen) = letters.next(POLL)? {
                dead.insert(seen.event_id);
            }
            self.consumers.ledger.keep_alive()?;
            self.consumers.compliance.keep_alive()?;
            if Books::read(self.stage, dead.len())?.are_even() {
                break;
            }
            if began.elapsed() > EVEN_WITHIN {
                let books = Books::read(self.stage, dead.len())?;
                bail!("the books do not agree: {books}\n{}", self.logs());
            }
        }
        self.consumers.ledger.stop()?;
        self.consumers.compliance.stop()?;
        self.relay.stop().await?;
        Ok((Books::read(self.stage, dead.len())?, self.kills))
    }

    fn logs(&self) -> String {
        let Consumers { ledger, compliance } = &self.consumers;
        let logs = [
            self.relay.log_text(),
            ledger.log_text(),
            compliance.log_text(),
        ];
        logs.join("\n")
    }
}
