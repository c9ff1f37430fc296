//! What drives a consumer: it carries records from Kafka to the workers, and offsets back.
//!
//! ```text
//!  partition queues ──► Schedule ──► batches ──► Worker, `concurrency` at the same time
//!         ▲   bounded       ▲                      │
//!         │                 └── again, later ◄─────┤
//!   offset commits ◄──────── Progress ◄────────────┘ settled
//! ```
//!
//! One task does all this and never waits for a handler: it goes on serving rebalances and keeps the
//! group's heartbeat, however slow handlers are. A partition whose events are not handled as fast as
//! they come is simply not read for a while; its queue in the client is bounded, too.

mod commit;
mod flight;
mod intake;
mod partition;
mod rebalance;

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use delivery::Backoff;
use rdkafka::consumer::Consumer as _;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::kafka::{self, Member, Rebalance};
use crate::metrics::Lag;
use crate::order::{Lane, Schedule};
use crate::settings::Settings;
use crate::work::{Item, Report, Worker};
use commit::Commit;
use flight::InFlight;
use partition::Partition;

/// The group's coordinator and librdkafka's timers are served at least so often.
const TICK: Duration = Duration::from_millis(100);
/// A consumer that ends does not wait longer for the group's coordinator.
const LEFT_WITHIN: Duration = Duration::from_secs(10);

/// A topic's partition.
type Place = (Arc<str>, i32);

pub(crate) struct Engine {
    settings: Settings,
    consumer: Member,
    worker: Arc<Worker>,
    lag: Lag,
    partitions: BTreeMap<Place, Partition>,
    next_slot: u64,
    schedule: Schedule<Item>,
    /// When lanes that wait for a retry go on.
    due: BTreeMap<(Instant, u64), Lane>,
    next_due: u64,
    workers: JoinSet<Report>,
    in_flight: HashMap<tokio::task::Id, InFlight>,
    /// Rebalances that wait for what runs, in order.
    rebalances: Vec<Rebalance>,
    draining_since: Option<Instant>,
    /// Partitions that are to be read again from where they are handled.
    rewinds: Vec<Place>,
    /// The database or the dead-letter topic is away: nothing starts before this.
    paused_until: Option<Instant>,
    outage: Backoff,
    commit: Option<Commit>,
    commit_at: Instant,
    stop: Option<Error>,
}

impl Engine {
    pub fn new(settings: Settings, consumer: Member, worker: Worker) -> Self {
        Self {
            lag: worker.metrics.lag.clone(),
            outage: settings.retry.waits(),
            settings,
            consumer,
            worker: Arc::new(worker),
            partitions: BTreeMap::new(),
            next_slot: 0,
            schedule: Schedule::default(),
            due: BTreeMap::new(),
            next_due: 0,
            workers: JoinSet::new(),
            in_flight: HashMap::new(),
            rebalances: Vec::new(),
            draining_since: None,
            rewinds: Vec::new(),
            paused_until: None,
            commit: None,
            commit_at: Instant::now(),
            stop: None,
        }
    }

    /// Runs until `shutdown` is ready, and drains.
    pub async fn run(
        mut self,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Error> {
        let topics: Vec<&str> = self.settings.topics.iter().map(String::as_str).collect();
        let subscribed = self.consumer.subscribe(&topics);
        subscribed.map_err(Error::kafka("subscribing to topics"))?;
        while self.stop.is_none() {
            self.rebalance().await;
            self.rewind().await;
            self.take_in();
            self.release_due();
            self.dispatch();
            self.commit_some();
            let wake = Arc::clone(&self.consumer.context().wake);
            let rest = self.rest();
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(done) = self.workers.join_next_with_id() => self.landed(done),
                () = wake.notified() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
        self.close().await
    }

    /// How long nothing may happen by itself.
    fn rest(&self) -> Duration {
        let due = self.due.keys().next().map(|(due, _)| *due);
        let next = due.into_iter().chain(self.paused_until).min();
        let until = next.map_or(TICK, |next| next.saturating_duration_since(Instant::now()));
        until.min(TICK)
    }

    fn release_due(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.due.first_entry().filter(|first| first.key().0 <= now) {
            let lane = first.remove();
            self.schedule.release(lane);
        }
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
    }

    /// Starts batches while there are events and free workers.
    fn dispatch(&mut self) {
        if self.paused_until.is_some() {
            return;
        }
        while self.in_flight.len() < self.settings.concurrency && !self.schedule.is_idle() {
            let items = self.schedule.take(self.settings.batch);
            if items.is_empty() {
                return;
            }
            let flight = InFlight::of(&items);
            let worker = Arc::clone(&self.worker);
            let task = self
                .workers
                .spawn(async move { worker.process(items).await });
            self.in_flight.insert(task.id(), flight.abortable(task));
        }
    }

    /// Lets what runs end, within the drain timeout, and leaves the group.
    async fn close(mut self) -> Result<(), Error> {
        let until = Instant::now() + self.settings.drain_timeout;
        while !self.in_flight.is_empty() {
            // The heartbeat goes on; what comes in is left to the next consumer.
            self.take_in();
            tokio::select! {
                Some(done) = self.workers.join_next_with_id() => self.landed(done),
                () = tokio::time::sleep(TICK) => {}
            }
            if Instant::now() >= until {
                self.workers.shutdown().await;
                self.in_flight.clear();
            }
        }
        self.commit_now(|_| true).await;
        for rebalance in std::mem::take(&mut self.rebalances) {
            kafka::decline(&self.consumer, &rebalance);
        }
        self.lag.with(|partitions| partitions.clear());
        // Their queues hold the client.
        self.partitions.clear();
        let Self {
            consumer,
            worker,
            stop,
            ..
        } = self;
        let left = kafka::apart(move || drop(consumer));
        if tokio::time::timeout(LEFT_WITHIN, left).await.is_err() {
            tracing::warn!(
                consumer = worker.consumer,
                "the group was not left, for its coordinator does not answer: other members get the \
                 partitions after the session timeout"
            );
        }
        stop.map_or(Ok(()), Err)
    }
}
