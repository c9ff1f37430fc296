//! Removing old rows of the inbox.
//!
//! A row may go only when its event can't be delivered again. So rows are kept for as long as the
//! topics keep events, unless the replay horizon is said; never shorter.

use std::time::{Duration, Instant, SystemTime};

use deadpool_postgres::Pool;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResourceResult, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, KafkaResult};
use tokio::runtime::Handle;

use crate::error::Error;
use crate::failure::Failure;
use crate::kafka::apart;
use crate::order::Retry;

const REMOVE: &str = "DELETE FROM inbox WHERE ctid = ANY (ARRAY( \
    SELECT ctid FROM inbox WHERE consumer = $1 \
    AND processed_at < now() - $2::float8 * interval '1 second' \
    ORDER BY processed_at LIMIT $3 FOR UPDATE SKIP LOCKED))";

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long what the topics keep counts as known; well below [`REMOVAL_TAKES`], by which rows outlive events.
const HORIZON_KEPT: Duration = Duration::from_secs(600);
/// Between two batches, so that others get their turn.
const PAUSE: Duration = Duration::from_millis(50);

/// How long rows of the inbox are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    keep: Duration,
    replay_horizon: Option<Duration>,
    every: Duration,
    batch: u32,
}

impl Retention {
    /// Keeps rows for this time, but no shorter than events can be replayed.
    pub fn keep(keep: Duration) -> Self {
        Self {
            keep,
            replay_horizon: None,
            every: Duration::from_secs(60),
            batch: 1_000,
        }
    }

    /// How far back events can be replayed: by a reset of the group's offsets, or by the relay. Without it,
    /// that is the largest `retention.ms` and `segment.ms` of the topics, by which replays of the relay are not known.
    pub fn replay_horizon(mut self, horizon: Duration) -> Self {
        self.replay_horizon = Some(horizon);
        self
    }

    /// Looks for old rows so often. Every minute if it is not said.
    pub fn every(mut self, period: Duration) -> Self {
        self.every = period;
        self
    }
}

/// The removal of old rows of one consumer.
pub(crate) struct Removal {
    asked: Retention,
    /// What is kept in the end: no shorter than events can be replayed.
    keep: Duration,
    known: Known,
    topics: Topics,
    pool: Pool,
    consumer: String,
}

/// Since when something is known, by both clocks: one stands while the machine sleeps, the other may be put back.
#[derive(Clone, Copy)]
struct Known(Instant, SystemTime);

impl Known {
    fn now() -> Self {
        Self(Instant::now(), SystemTime::now())
    }

    fn is_old(self) -> bool {
        let by_date = self.1.elapsed().unwrap_or_default();
        self.0.elapsed().max(by_date) > HORIZON_KEPT
    }
}

/// Which topics say how far back events can be replayed.
pub(crate) struct Topics {
    pub config: ClientConfig,
    pub names: Vec<String>,
    pub retry: Retry,
}

impl Removal {
    /// Reads the horizon.
    pub async fn new(
        asked: Retention,
        topics: Topics,
        pool: Pool,
        consumer: String,
    ) -> Result<Self, Error> {
        let mut removal = Self {
            keep: asked.keep,
            known: Known::now(),
            asked,
            topics,
            pool,
            consumer,
        };
        removal.read_horizon().await?;
        Ok(removal)
    }

    /// The retention of a topic may be raised while the consumer runs. If it is lowered, events go later than
    /// that, or never, if it is raised again soon: rows are kept as before.
    async fn read_horizon(&mut self) -> Result<(), Error> {
        let known = Known::now();
        let horizon = match self.asked.replay_horizon {
            Some(horizon) => horizon,
            None => horizon_of(&self.topics).await?,
        };
        self.keep = self.keep.max(horizon);
        self.known = known;
        Ok(())
    }

    /// Removes old rows for ever.
    pub async fn run(mut self) {
        loop {
            match self.remove().await {
                Ok(removed) if removed >= u64::from(self.asked.batch) => {
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(_) => tokio::time::sleep(self.asked.every).await,
                Err(error) => {
                    let consumer = self.consumer.as_str();
                    tracing::warn!(%error, consumer, "old rows of the inbox were not removed");
                    tokio::time::sleep(self.asked.every).await;
                }
            }
        }
    }

    /// Removes one batch.
    async fn remove(&mut self) -> Result<u64, Failure> {
        // Others may have all connections for long.
        let mut client = self.pool.get().await?;
        while self.known.is_old() {
            drop(client);
            self.read_horizon().await?;
            client = self.pool.get().await?;
        }
        let (seconds, batch) = (self.keep.as_secs_f64(), i64::from(self.asked.batch));
        Ok(client
            .execute(REMOVE, &[&self.consumer, &seconds, &batch])
            .await?)
    }
}

/// For how long the topics keep events. While Kafka is away, this waits.
async fn horizon_of(topics: &Topics) -> Result<Duration, Error> {
    let Topics {
        config,
        names: topics,
        retry,
    } = topics;
    let mut waits = retry.waits();
    let unknown = |reason: String| Error::NoReplayHorizon { reason };
    if let Some(pattern) = topics.iter().find(|topic| topic.starts_with('^')) {
        return Err(unknown(format!("the topics of {pattern} can change")));
    }
    let described = loop {
        match describe(config.clone(), topics.clone()).await {
            Ok(described) => break described,
            Err(error) => {
                tracing::warn!(%error, "reading the retention of topics failed; trying again");
                tokio::time::sleep(waits.next_wait(fastrand::f64())).await;
            }
        }
    };
    let mut horizon = Duration::ZERO;
    for (topic, described) in topics.iter().zip(described) {
        let described = described.map_err(|error| unknown(format!("topic {topic}: {error}")))?;
        let value = |name: &str| described.get(name).and_then(|entry| entry.value.clone());
        let kept = kept_for(topic, value).map_err(unknown)?;
        horizon = horizon.max(kept);
    }
    Ok(horizon)
}

/// In a thread of its own: the client's end blocks while Kafka is away.
async fn describe(
    config: ClientConfig,
    topics: Vec<String>,
) -> KafkaResult<Vec<ConfigResourceResult>> {
    let runtime = Handle::current();
    let answer = apart(move || {
        let admin: AdminClient<DefaultClientContext> = config.create()?;
        let specifiers = topics.iter().map(|topic| ResourceSpecifier::Topic(topic));
        let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
        let specifiers: Vec<_> = specifiers.collect();
        runtime.block_on(admin.describe_configs(&specifiers, &options))
    });
    answer.await.unwrap_or(Err(KafkaError::Canceled))
}

/// Brokers look for segments that are too old at times (`log.retention.check.interval.ms`, 5 minutes by
/// default), and remove files a while after.
const REMOVAL_TAKES: Duration = Duration::from_secs(3600);

/// A segment goes as a whole, when its last event is old enough.
fn kept_for(topic: &str, value: impl Fn(&str) -> Option<String>) -> Result<Duration, String> {
    if value("cleanup.policy").is_some_and(|policy| policy == "compact") {
        return Err(format!(
            "topic {topic} is compacted, and keeps events for ever"
        ));
    }
    let ms = |name: &str| value(name).and_then(|ms| ms.parse::<i64>().ok());
    let (Some(retention_ms), Some(segment_ms)) = (ms("retention.ms"), ms("segment.ms")) else {
        return Err(format!("the retention of topic {topic} is not known"));
    };
    let kept = u64::try_from(retention_ms).map(Duration::from_millis);
    let kept = kept.map_err(|_| format!("topic {topic} keeps events for ever"))?;
    let segment = Duration::from_millis(segment_ms.unsigned_abs());
    Ok(kept.saturating_add(segment).saturating_add(REMOVAL_TAKES))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_topic_without_an_end_has_no_horizon() {
        let kept = |retention_ms: &str, policy: &str| {
            let settings = [
                ("retention.ms", retention_ms),
                ("segment.ms", "10000"),
                ("cleanup.policy", policy),
            ];
            let settings = HashMap::from(settings);
            kept_for("t", |name| {
                settings.get(name).map(|value| (*value).to_owned())
            })
        };
        assert_eq!(
            kept("60000", "delete"),
            Ok(Duration::from_secs(70) + REMOVAL_TAKES)
        );
        assert!(kept("-1", "delete").unwrap_err().contains("for ever"));
        assert!(kept("60000", "compact").unwrap_err().contains("for ever"));
        assert!(kept_for("t", |_| None).unwrap_err().contains("not known"));
    }

    const TOPIC: &str = "transfers.settled";
    const DAY: Duration = Duration::from_secs(86_400);

    async fn removal(asked: Retention, bootstrap: &str, postgres: &str) -> Removal {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap);
        let topics = Topics {
            config,
            names: vec![TOPIC.to_owned()],
            retry: Retry::default(),
        };
        let manager =
            deadpool_postgres::Manager::new(postgres.parse().unwrap(), tokio_postgres::NoTls);
        let pool = Pool::builder(manager).build().unwrap();
        let removal = Removal::new(asked, topics, pool, "a".to_owned()).await;
        removal.unwrap()
    }

    #[tokio::test]
    async fn rows_are_never_kept_shorter_than_the_horizon() {
        let kept = |keep: Duration| Retention::keep(keep).replay_horizon(7 * DAY);
        for (keep, expected) in [(DAY, 7 * DAY), (30 * DAY, 30 * DAY)] {
            let removal = removal(kept(keep), "localhost:1", "host=localhost").await;
            assert_eq!(removal.keep, expected);
        }
    }

    #[tokio::test]
    async fn a_horizon_that_grows_later_is_heeded() {
        let kafka = testbed::Kafka::builder().start().unwrap();
        let run = |class: &str, args: &[&str]| {
            let mut tool = kafka.tool(class).unwrap();
            tool.args(["--bootstrap-server", &kafka.bootstrap()]);
            assert!(tool.args(args).status().unwrap().success());
        };
        let keep_for = |time: Duration| {
            let settings = format!("segment.ms=3600000,retention.ms={}", time.as_millis());
            let alter = ["--alter", "--topic", TOPIC, "--add-config", &settings];
            run("kafka.admin.ConfigCommand", &alter);
        };
        let create = ["--create", "--topic", TOPIC];
        run("org.apache.kafka.tools.TopicCommand", &create);
        keep_for(DAY);
        let server = inbox_with("(VALUES (3), (20), (40)) AS days (n)", "day");
        let asked = Retention::keep(Duration::ZERO);
        let url = server.superuser_url("postgres");
        let mut removal = removal(asked, &kafka.bootstrap(), &url).await;
        let later = |removal: &mut Removal| removal.known.1 -= 2 * HORIZON_KEPT;
        keep_for(30 * DAY);
        later(&mut removal);
        assert_eq!(removal.remove().await.unwrap(), 1, "of 40 days");
        // Events are there still.
        keep_for(DAY);
        later(&mut removal);
        assert_eq!(removal.remove().await.unwrap(), 0);
    }

    /// With a row of consumer `a` for each of these numbers, that many units old.
    fn inbox_with(numbers: &str, unit: &str) -> testbed::Postgres {
        let server = testbed::Postgres::builder().start().unwrap();
        let table = include_str!("../../../sql/inbox.sql");
        server.sql("postgres", table).unwrap();
        let rows = format!(
            "INSERT INTO inbox SELECT n, 'a', now() - n * interval '1 {unit}' FROM {numbers}"
        );
        server.sql("postgres", &rows).unwrap();
        server
    }

    #[tokio::test]
    async fn only_old_rows_of_the_consumer_are_removed() {
        let server = inbox_with("generate_series(1, 20) AS hours (n)", "hour");
        let another = "INSERT INTO inbox SELECT event_id, 'b', processed_at FROM inbox";
        server.sql("postgres", another).unwrap();
        let keep = Duration::from_secs(10 * 3600 + 1);
        let mut asked = Retention::keep(keep).replay_horizon(keep);
        asked.batch = 8;
        let url = server.superuser_url("postgres");
        let mut removal = removal(asked, "localhost:1", &url).await;
        assert_eq!(removal.remove().await.unwrap(), 8, "the oldest first");
        assert_eq!(removal.remove().await.unwrap(), 2);
        assert_eq!(removal.remove().await.unwrap(), 0);
        let left = "SELECT string_agg(consumer || count, ' ' ORDER BY consumer) FROM \
            (SELECT consumer, count(*) FROM inbox GROUP BY consumer) t";
        let left = server.sql("postgres", left).unwrap();
        assert_eq!(left[0][0].as_deref(), Some("a10 b20"));
    }
}
