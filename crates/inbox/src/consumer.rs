//! A consumer, from its start to its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::Consumer as _;

use crate::builder::ConsumerBuilder;
use crate::claim;
use crate::engine::Engine;
use crate::error::Error;
use crate::failure::Failure;
use crate::kafka::Member;
use crate::metrics::Lag;
use crate::retention::{Removal, Retention, Topics};
use crate::settings::Settings;
use crate::work::{Letters, Once, Worker};

const METADATA_WITHIN: Duration = Duration::from_secs(10);

/// Handles each event of some topics once.
pub struct Consumer {
    pub(crate) kafka: Member,
    pub(crate) config: ClientConfig,
    pub(crate) settings: Settings,
    pub(crate) retention: Option<Retention>,
    pub(crate) worker: Worker,
}

impl Consumer {
    /// A consumer of this name: in the inbox, in its metrics, and as its group.
    pub fn builder(name: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder::new(name.into())
    }

    /// How late it is, also while it runs.
    pub fn lag(&self) -> Lag {
        self.worker.metrics.lag.clone()
    }

    /// Runs until the process is told to end (SIGTERM or SIGINT). See [`run_until`](Self::run_until).
    ///
    /// # Errors
    /// As there.
    pub async fn run(self) -> Result<(), Error> {
        self.run_until(ended()).await
    }

    /// Runs until `shutdown` is ready. Then it takes nothing in any more, lets running handlers end,
    /// commits offsets, leaves the group, and returns. It does not wait longer than 20 seconds for Kafka to
    /// answer that.
    ///
    /// While the database or Kafka is away it waits and tries again without end.
    ///
    /// # Errors
    /// A table or the dead-letter topic is missing, an event is of an unknown type and that is to stop
    /// the consumer, or Kafka's client can't go on. What was handled until then is committed.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let mut shutdown = pin!(shutdown);
        let checked = tokio::select! {
            checked = self.check() => checked?,
            () = &mut shutdown => return Ok(()),
        };
        let engine = Engine::new(self.settings, self.kafka, self.worker);
        let Some(removal) = checked else {
            return engine.run(shutdown).await;
        };
        tokio::select! {
            ended = engine.run(shutdown) => ended,
            // It never ends.
            () = removal.run() => Ok(()),
        }
    }

    /// Looks for what the consumer needs, as soon as the servers answer.
    async fn check(&self) -> Result<Option<Removal>, Error> {
        let mut waits = self.settings.retry.waits();
        let table = match self.settings.once {
            Once::Inbox => "inbox",
            Once::Offsets => "inbox_offsets",
        };
        loop {
            match self.look(table).await {
                Ok(true) => break,
                Ok(false) => return Err(Error::NoTable { table }),
                Err(failure) => {
                    tracing::warn!(error = %failure, "the database is away; trying again");
                    tokio::time::sleep(waits.next_wait(fastrand::f64())).await;
                }
            }
        }
        self.check_dead_letters().await?;
        let Some(retention) = self.retention else {
            return Ok(None);
        };
        let topics = Topics {
            config: self.config.clone(),
            names: self.settings.topics.clone(),
            retry: self.settings.retry,
        };
        let (pool, name) = (self.worker.pool.clone(), self.worker.consumer.clone());
        Removal::new(retention, topics, pool, name).await.map(Some)
    }

    async fn look(&self, table: &'static str) -> Result<bool, Failure> {
        let client = self.worker.pool.get().await?;
        Ok(claim::has_table(&client, table).await?)
    }

    async fn check_dead_letters(&self) -> Result<(), Error> {
        let Letters::Topic(letters) = &self.worker.letters else {
            return Ok(());
        };
        let mut waits = self.settings.retry.waits();
        loop {
            let kafka = Arc::clone(&self.kafka.0);
            // Of all topics: asking for one creates it on brokers that allow that.
            let look = move || kafka.fetch_metadata(None, METADATA_WITHIN);
            match tokio::task::spawn_blocking(look).await {
                Ok(Ok(found)) if found.topics().iter().any(|t| t.name() == letters.topic) => {
                    return Ok(());
                }
                Ok(Ok(_)) => {
                    let topic = letters.topic.clone();
                    return Err(Error::NoDeadLetterTopic { topic });
                }
                Ok(Err(error)) => tracing::warn!(%error, "Kafka is away; trying again"),
                Err(error) => tracing::warn!(%error, "looking for topics failed; trying again"),
            }
            tokio::time::sleep(waits.next_wait(fastrand::f64())).await;
        }
    }
}

/// The process is told to end.
async fn ended() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupted = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminated) => {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted => {}
            }
        }
        Err(_) => drop(interrupted.await),
    }
}
