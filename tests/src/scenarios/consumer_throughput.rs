//! What many events in one transaction are worth.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use inbox::{ConsumerBuilder, Event, Failure, Handlers, Transaction};

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

async fn post(event: Event<Settled>, tx: &Transaction<'_>) -> Result<(), Failure> {
    let sql = "INSERT INTO entries (event_id, transfer_id, amount) VALUES ($1, $2, $3)";
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(
        &statement,
        &[&event.id(), &event.transfer_id(), &event.payload.amount],
    )
    .await?;
    Ok(())
}

async fn post_all(events: &[Event<Settled>], tx: &Transaction<'_>) -> Result<(), Failure> {
    let ids: Vec<_> = events.iter().map(Event::id).collect();
    let transfers: Vec<_> = events.iter().map(Event::transfer_id).collect();
    let amounts: Vec<_> = events.iter().map(|event| event.payload.amount).collect();
    let sql = "INSERT INTO entries SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])";
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(&statement, &[&ids, &transfers, &amounts])
        .await?;
    Ok(())
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
    let single = Handlers::new().on("transfers.settled", post);
    let batch = Handlers::new().on_batch("transfers.settled", post_all);
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
            mode.rates.push(rate(&stage, builder, mode.events).await?);
        }
    }
    let [one, alike, many] = modes.map(|mode| (mode.name, mode.median()));
    for (name, rate) in [one, alike, many] {
        figures.add(&format!("{name}_per_s"), rate.round());
    }
    let ratio = many.1 / one.1;
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
    rates: Vec<f64>,
}

impl Mode {
    fn new(name: &'static str, handlers: Handlers, batch: usize, events: u32) -> Self {
        let rates = Vec::new();
        Self {
            name,
            handlers,
            batch,
            events,
            rates,
        }
    }

    fn median(mut self) -> f64 {
        self.rates.sort_by(f64::total_cmp);
        self.rates.get(ROUNDS / 2).copied().unwrap_or_default()
    }
}

/// Events per second, from the first one that is handled to the last.
async fn rate(stage: &Stage, builder: ConsumerBuilder, events: u32) -> Result<f64> {
    stage.postgres.sql(DATABASE, "TRUNCATE entries")?;
    let running = Running::start(builder)?;
    let count =
        async || -> Result<u32> { Ok(stage.value("SELECT count(*) FROM entries")?.parse()?) };
    wait::until("the consumer begins", HANDLED_WITHIN, async || {
        Ok(count().await? > 0)
    })
    .await?;
    let (began, before) = (Instant::now(), count().await?);
    wait::until("everything is handled", HANDLED_WITHIN, async || {
        Ok(count().await? >= events)
    })
    .await?;
    let rate = f64::from(events - before) / began.elapsed().as_secs_f64();
    running.stop().await?;
    ensure!(count().await? == events, "handled more than once");
    Ok(rate)
}
