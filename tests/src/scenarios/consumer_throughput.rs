//! What many events in one transaction are worth.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use inbox::{BatchHandler, ConsumerBuilder, Event, Failure, Handler, Handlers, Transaction};

use crate::consumers::{self, Running};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::{cluster, wait};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "consumer-throughput",
    about: "events per second of the consumer library, with fsync: batches at least 10 times one transaction per event",
    group: Group::Alone,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(run(figures)),
};

const TOPIC: &str = "throughput.settled";
const RATIO_MIN: f64 = 10.0;
const HANDLED_WITHIN: Duration = Duration::from_secs(120);
const BATCH: usize = 1_000;
/// Rounds alternate between the modes, so that what else the machine does hits all of them.
const ROUNDS: usize = 3;

#[derive(serde::Deserialize)]
struct Settled {
    amount: i64,
}

/// Counts what it is given: asking the database how much there is would cost what is to be measured.
#[derive(Clone, Default)]
struct Post(Arc<AtomicU64>);

impl Handler<Settled> for Post {
    async fn handle(&self, event: Event<Settled>, tx: &Transaction<'_>) -> Result<(), Failure> {
        let sql = "INSERT INTO entries (event_id, transfer_id, amount) VALUES ($1, $2, $3)";
        let statement = tx.prepare_cached(sql).await?;
        tx.execute(
            &statement,
            &[&event.id(), &event.transfer_id(), &event.payload.amount],
        )
        .await?;
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl BatchHandler<Settled> for Post {
    async fn handle(&self, events: &[Event<Settled>], tx: &Transaction<'_>) -> Result<(), Failure> {
        let ids: Vec<_> = events.iter().map(Event::id).collect();
        let transfers: Vec<_> = events.iter().map(Event::transfer_id).collect();
        let amounts: Vec<_> = events.iter().map(|event| event.payload.amount).collect();
        let sql = "INSERT INTO entries SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])";
        let statement = tx.prepare_cached(sql).await?;
        tx.execute(&statement, &[&ids, &transfers, &amounts])
            .await?;
        self.0.fetch_add(events.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .patient()
        .postgres(|p| p.durable())
        .bare()
        .start()
        .await?;
    consumers::prepare(&stage, "ledger").await?;
    cluster::create_topic(&stage.bootstrap(), TOPIC, 4, &[]).await?;
    let post = Post::default();
    let single = Handlers::new().on("transfers.settled", post.clone());
    let batch = Handlers::new().on_batch("transfers.settled", post.clone());
    let consumer = |handlers| consumers::consumer(&stage, "ledger", &[TOPIC], handlers);

    let mut modes = [
        Mode::new("one_per_transaction", single.clone(), 1, 4_000),
        Mode::new("batch_of_single_events", single, BATCH, 30_000),
        Mode::new("batch", batch, BATCH, 120_000),
    ];
    let mut next = 0;
    for _ in 0..ROUNDS {
        for mode in &mut modes {
            let last = next + mode.events;
            consumers::produce(&stage, TOPIC, next..last)?;
            next = last;
            let builder = consumer(mode.handlers.clone())?.batch(mode.batch);
            let round = measure(&stage, builder, &post, mode.events).await?;
            mode.rounds.push(round);
        }
    }
    for mode in &modes {
        let name = mode.name;
        figures.add(&format!("{name}_per_s"), mode.median().round());
        figures.add(&format!("{name}_cpu_us"), mode.cpu());
    }
    let [one, _, many] = modes.each_ref().map(Mode::median);
    let ratio = many / one;
    figures.add("ratio", format!("{ratio:.1}"));
    ensure!(
        ratio >= RATIO_MIN,
        "batches are only {ratio:.1} times as fast"
    );
    Ok(())
}

/// One way to handle events, and how fast it was in each round.
struct Mode {
    name: &'static str,
    handlers: Handlers,
    batch: usize,
    events: u32,
    rounds: Vec<Round>,
}

/// What one round has shown, from the first event that is handled to the last.
#[derive(Clone, Copy, Default)]
struct Round {
    events: f64,
    seconds: f64,
    /// CPU seconds of this process, with the consumer in it.
    consumer_cpu: f64,
    /// CPU seconds of Postgres.
    server_cpu: f64,
}

impl Round {
    fn rate(&self) -> f64 {
        self.events / self.seconds
    }
}

impl Mode {
    fn new(name: &'static str, handlers: Handlers, batch: usize, events: u32) -> Self {
        let rounds = Vec::new();
        Self {
            name,
            handlers,
            batch,
            events,
            rounds,
        }
    }

    fn median(&self) -> f64 {
        let mut rates: Vec<_> = self.rounds.iter().map(Round::rate).collect();
        rates.sort_by(f64::total_cmp);
        rates.get(ROUNDS / 2).copied().unwrap_or_default()
    }

    /// CPU microseconds per event.
    fn cpu(&self) -> String {
        let sum = |part: fn(&Round) -> f64| self.rounds.iter().map(part).sum::<f64>();
        let per_event = |part| sum(part) * 1e6 / sum(|round| round.events);
        let consumer = per_event(|round| round.consumer_cpu);
        let server = per_event(|round| round.server_cpu);
        format!("consumer:{consumer:.1},postgres:{server:.1}")
    }
}

/// Runs a consumer until it has handled these events.
async fn measure(
    stage: &Stage,
    builder: ConsumerBuilder,
    post: &Post,
    events: u32,
) -> Result<Round> {
    stage.postgres.sql(DATABASE, "TRUNCATE entries")?;
    post.0.store(0, Ordering::Relaxed);
    let handled = || post.0.load(Ordering::Relaxed);
    let running = Running::start(builder)?;
    wait::until("the consumer begins", HANDLED_WITHIN, async || {
        Ok(handled() > 0)
    })
    .await?;
    let (before, began, cpu_before) = (handled(), Instant::now(), cpu(stage)?);
    wait::until("everything is handled", HANDLED_WITHIN, async || {
        Ok(handled() >= u64::from(events))
    })
    .await?;
    let (seconds, cpu_after) = (began.elapsed().as_secs_f64(), cpu(stage)?);
    // What runs is committed.
    running.stop().await?;
    let entries = stage.value("SELECT count(*) FROM entries")?;
    ensure!(
        entries == events.to_string(),
        "{entries} entries of {events} events"
    );
    Ok(Round {
        events: (u64::from(events) - before) as f64,
        seconds,
        consumer_cpu: cpu_after.0 - cpu_before.0,
        server_cpu: cpu_after.1 - cpu_before.1,
    })
}

/// CPU seconds of this process and of Postgres.
fn cpu(stage: &Stage) -> Result<(f64, f64)> {
    let server = stage.postgres.pid().context("Postgres does not run")?;
    let own = testbed::cpu_seconds(std::process::id())?;
    Ok((own, testbed::family_cpu_seconds(server)?))
}
