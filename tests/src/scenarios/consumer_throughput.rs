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

    consumers::produce(&stage, TOPIC, 0..10_000)?;
    let one = rate(&stage, consumer(single.clone())?, 10_000).await?;
    consumers::produce(&stage, TOPIC, 10_000..110_000)?;
    let alike = rate(&stage, consumer(single)?.batch(BATCH), 100_000).await?;
    consumers::produce(&stage, TOPIC, 110_000..510_000)?;
    let many = rate(&stage, consumer(batch)?.batch(BATCH), 400_000).await?;

    let ratio = many / one;
    figures.add("one_per_transaction_per_s", one.round());
    figures.add("batch_handler_of_one_per_s", alike.round());
    figures.add("batch_per_s", many.round());
    figures.add("ratio", format!("{ratio:.1}"));
    ensure!(
        ratio >= RATIO_MIN,
        "batches are only {ratio:.1} times as fast"
    );
    Ok(())
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
