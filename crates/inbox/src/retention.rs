//! Removing old rows of the inbox.
//!
//! A row may go only when its event can't be delivered again. So rows are kept for as long as the
//! topics keep events, unless the replay horizon is said; never shorter.

use std::time::Duration;

use deadpool_postgres::Pool;
use delivery::Backoff;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use crate::error::Error;
use crate::failure::Failure;

const REMOVE: &str = "DELETE FROM inbox WHERE ctid = ANY (ARRAY( \
    SELECT ctid FROM inbox WHERE consumer = $1 \
    AND processed_at < now() - $2::float8 * interval '1 second' \
    ORDER BY processed_at LIMIT $3 FOR UPDATE SKIP LOCKED))";

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
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

    /// What is kept in the end.
    pub(crate) async fn checked(
        self,
        config: &ClientConfig,
        topics: &[String],
        waits: Backoff,
    ) -> Result<Self, Error> {
        let horizon = match self.replay_horizon {
            Some(horizon) => horizon,
            None => horizon_of(config, topics, waits).await?,
        };
        Ok(Self {
            keep: self.keep.max(horizon),
            ..self
        })
    }
}

/// Removes old rows for ever.
pub(crate) async fn run(retention: Retention, pool: Pool, consumer: String) {
    loop {
        match remove(&retention, &pool, &consumer).await {
            Ok(removed) if removed >= u64::from(retention.batch) => {
                tokio::time::sleep(PAUSE).await;
            }
            Ok(_) => tokio::time::sleep(retention.every).await,
            Err(failure) => {
                tracing::warn!(error = %failure, "old rows of the inbox were not removed");
                tokio::time::sleep(retention.every).await;
            }
        }
    }
}

/// Removes one batch.
pub(crate) async fn remove(
    retention: &Retention,
    pool: &Pool,
    consumer: &str,
) -> Result<u64, Failure> {
    let client = pool.get().await?;
    let (seconds, batch) = (retention.keep.as_secs_f64(), i64::from(retention.batch));
    Ok(client
        .execute(REMOVE, &[&consumer, &seconds, &batch])
        .await?)
}

/// For how long the topics keep events. While Kafka is away, this waits.
async fn horizon_of(
    config: &ClientConfig,
    topics: &[String],
    mut waits: Backoff,
) -> Result<Duration, Error> {
    let unknown = |reason: String| Error::NoReplayHorizon { reason };
    if let Some(pattern) = topics.iter().find(|topic| topic.starts_with('^')) {
        return Err(unknown(format!("the topics of {pattern} can change")));
    }
    let admin: AdminClient<DefaultClientContext> = config
        .create()
        .map_err(Error::kafka("making a Kafka admin client"))?;
    let specifiers = topics.iter().map(|topic| ResourceSpecifier::Topic(topic));
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
    let specifiers: Vec<_> = specifiers.collect();
    let described = loop {
        match admin.describe_configs(&specifiers, &options).await {
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

    #[tokio::test]
    async fn rows_are_never_kept_shorter_than_the_horizon() {
        let day = Duration::from_secs(86_400);
        let kept = |keep: Duration| Retention::keep(keep).replay_horizon(7 * day);
        let config = ClientConfig::new();
        for (keep, expected) in [(day, 7 * day), (30 * day, 30 * day)] {
            let waits = crate::Retry::default().waits();
            let checked = kept(keep).checked(&config, &[], waits).await;
            assert_eq!(checked.unwrap().keep, expected);
        }
    }

    #[tokio::test]
    async fn only_old_rows_of_the_consumer_are_removed() {
        let server = testbed::Postgres::builder().start().unwrap();
        server
            .sql("postgres", include_str!("../../../sql/inbox.sql"))
            .unwrap();
        let rows = "INSERT INTO inbox SELECT n, c, now() - n * interval '1 hour' \
            FROM generate_series(1, 20) n, (VALUES ('a'), ('b')) AS consumers (c)";
        server.sql("postgres", rows).unwrap();
        let config = server.superuser_url("postgres").parse().unwrap();
        let manager = deadpool_postgres::Manager::new(config, tokio_postgres::NoTls);
        let pool = Pool::builder(manager).build().unwrap();
        let mut retention = Retention::keep(Duration::from_secs(10 * 3600 + 1));
        retention.batch = 8;
        assert_eq!(
            remove(&retention, &pool, "a").await.unwrap(),
            8,
            "the oldest first"
        );
        assert_eq!(remove(&retention, &pool, "a").await.unwrap(), 2);
        assert_eq!(remove(&retention, &pool, "a").await.unwrap(), 0);
        let left = "SELECT string_agg(consumer || count, ' ' ORDER BY consumer) FROM \
            (SELECT consumer, count(*) FROM inbox GROUP BY consumer) t";
        let left = server.sql("postgres", left).unwrap();
        assert_eq!(left[0][0].as_deref(), Some("a10 b20"));
    }
}
