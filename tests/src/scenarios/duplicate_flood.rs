//! Every event comes three times, and is handled once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use inbox::{BatchHandler, Event, Failure, Handlers, Transaction};

use crate::consumers::{self, Running};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::{cluster, wait};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "duplicate-flood",
    about: "100,000 events delivered three times, in two topics: handlers run exactly 100,000 times",
    group: Group::Short,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

const EVENTS: u32 = 100_000;
const TOPICS: [&str; 2] = ["flood.first", "flood.second"];
const HANDLED_WITHIN: Duration = Duration::from_secs(150);

#[derive(serde::Deserialize)]
struct Settled {
    amount: i64,
}

/// Counts each event that it is given, whether its transaction is committed or not.
struct Post(Arc<AtomicU64>);

impl BatchHandler<Settled> for Post {
    async fn handle(&self, events: &[Event<Settled>], tx: &Transaction<'_>) -> Result<(), Failure> {
        self.0.fetch_add(events.len() as u64, Ordering::Relaxed);
        let ids: Vec<_> = events.iter().map(Event::id).collect();
        let amounts: Vec<_> = events.iter().map(|event| event.payload.amount).collect();
        let sql =
            "INSERT INTO entries (event_id, amount) SELECT * FROM unnest($1::text[], $2::bigint[])";
        let statement = tx.prepare_cached(sql).await?;
        tx.execute(&statement, &[&ids, &amounts]).await?;
        Ok(())
    }
}

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().bare().start().await?;
    consumers::prepare(&stage, "ledger").await?;
    for topic in TOPICS {
        cluster::create_topic(&stage.bootstrap(), topic, 4, &[]).await?;
    }
    // Twice in the first topic, in runs that repeat; backwards in the second, so that both copies of an
    // event are handled at the same time now and then.
    let repeated = (0..EVENTS / 1000).flat_map(|run| {
        let run = run * 1000..(run + 1) * 1000;
        run.clone().chain(run)
    });
    consumers::produce(&stage, TOPICS[0], repeated)?;
    consumers::produce(&stage, TOPICS[1], (0..EVENTS).rev())?;

    let runs = Arc::new(AtomicU64::new(0));
    let mut registry = prometheus_client::registry::Registry::default();
    let began = Instant::now();
    let handlers = Handlers::new().on_batch("transfers.settled", Post(Arc::clone(&runs)));
    let builder = || consumers::consumer(&stage, "ledger", &TOPICS, handlers.clone());
    let first = builder()?.batch(500).metrics(&mut registry);
    let first = Running::start(first)?;
    // Partitions move while it runs.
    let second = Running::start(builder()?.batch(500))?;
    let is_handled = || Ok(stage.value("SELECT count(*) >= 100000 FROM entries")? == "t");
    wait::until("everything is handled", HANDLED_WITHIN, async || {
        is_handled()
    })
    .await?;
    let caught_up = async || Ok(group_lag(&stage)? == 0);
    wait::until("offsets are committed", HANDLED_WITHIN, caught_up).await?;
    let took = began.elapsed();
    first.stop().await?;
    second.stop().await?;

    let distinct = stage.value("SELECT count(DISTINCT event_id) FROM entries")?;
    let rows = stage.value("SELECT count(*) FROM entries")?;
    let runs = runs.load(Ordering::Relaxed);
    figures.add("runs", runs);
    figures.add("entries", &rows);
    figures.add(
        "deliveries_per_s",
        (3.0 * f64::from(EVENTS) / took.as_secs_f64()).round(),
    );
    ensure!(runs == u64::from(EVENTS), "handlers ran {runs} times");
    ensure!(
        rows == "100000" && distinct == rows,
        "{rows} entries of {distinct} events"
    );
    Ok(())
}

/// Records behind the committed offsets.
fn group_lag(stage: &Stage) -> Result<i64> {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let mut config = rdkafka::ClientConfig::new();
    config
        .set("bootstrap.servers", stage.bootstrap())
        .set("group.id", "ledger");
    let consumer: BaseConsumer = config.create()?;
    let within = Duration::from_secs(10);
    let mut lag = 0;
    for topic in TOPICS {
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_range(topic, 0, 3);
        for element in consumer.committed_offsets(list, within)?.elements() {
            let (_, end) = consumer.fetch_watermarks(topic, element.partition(), within)?;
            lag += end - element.offset().to_raw().unwrap_or_default().max(0);
        }
    }
    Ok(lag)
}
