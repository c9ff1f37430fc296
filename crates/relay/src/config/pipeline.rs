//! One pipeline: a slot and publication of one database, the tables in it, and where they go.

use std::time::Duration;

use delivery::RetryPolicy;
use envelope::{TableSpec, TopicPolicy};

use super::consumers::{ConsumerLag, ConsumerSpec};
use super::dead_letter::{DeadLetterBounds, DeadLetterSpec};
use super::decrypt::Decrypt;
use super::kafka::Kafka;
use super::postgres::Postgres;
use super::write_back::{Retention, StateSpec, WriteBackBounds};

/// One database's way to Kafka.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Its name: `[a-z0-9_-]`, 1 to 40 characters, unique in the configuration.
    pub name: String,
    /// The guarantee.
    pub mode: Mode,
    /// Where events go.
    pub sink: SinkKind,
    /// Transactional producers in the ring, 1 to 16.
    pub concurrency: usize,
    /// Source.
    pub postgres: Postgres,
    /// Destination.
    pub kafka: Kafka,
    /// Outbox tables. Never empty after loading.
    pub tables: Vec<TableSpec>,
    /// Their state columns, in the same order; see [`Pipeline::outboxes`].
    pub states: Vec<StateSpec>,
    /// Topics that routing may use. The checkpoint topics of all pipelines are always denied.
    pub topics: TopicPolicy,
    /// What is published in the clear though its row is encrypted.
    pub decrypt: Option<Decrypt>,
    /// When a window closes.
    pub batch: Batch,
    /// Bounds of one event.
    pub event: Event,
    /// How transient failures are retried.
    pub retry: Retry,
    /// When the pipeline counts as late.
    pub sla: Sla,
    /// Their dead letters, in the same order.
    pub dead_letters: Vec<DeadLetterSpec>,
    /// Bounds of the dead letters.
    pub dead_letter_bounds: DeadLetterBounds,
    /// Bounds of the write-back.
    pub write_back: WriteBackBounds,
    /// How long published rows are kept.
    pub retention: Retention,
    /// Which rows from before the slot are published.
    pub backfill: Backfill,
    /// Consumer groups whose lag is exported.
    pub consumers: Vec<ConsumerSpec>,
    /// What that may cost.
    pub consumer_lag: ConsumerLag,
}

impl Default for Pipeline {
    fn default() -> Self {
        let kafka = Kafka::default();
        Self {
            name: "outbox".into(),
            mode: Mode::ExactlyOnce,
            sink: SinkKind::Kafka,
            concurrency: 2,
            postgres: Postgres::default(),
            tables: vec![TableSpec::default()],
            states: vec![StateSpec::default()],
            topics: TopicPolicy {
                deny: [
                    kafka.checkpoint_topic.clone(),
                    DeadLetterSpec::default().topic,
                ]
                .into(),
                ..TopicPolicy::default()
            },
            kafka,
            decrypt: None,
            batch: Batch::default(),
            event: Event::default(),
            retry: Retry::default(),
            sla: Sla::default(),
            dead_letters: vec![DeadLetterSpec::default()],
            dead_letter_bounds: DeadLetterBounds::default(),
            write_back: WriteBackBounds::default(),
            retention: Retention::default(),
            backfill: Backfill::default(),
            consumers: Vec::new(),
            consumer_lag: ConsumerLag::default(),
        }
    }
}

/// What a consumer may rely on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Transactions that carry the checkpoint: a `read_committed` consumer sees each event once.
    #[default]
    ExactlyOnce,
    /// Idempotent producer without transactions: a crash may repeat events.
    AtLeastOnce,
}

/// Where events go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SinkKind {
    /// Kafka, with checkpoints.
    #[default]
    Kafka,
    /// JSON lines on standard output, without checkpoints: for trying out.
    Stdout,
}

/// When a window closes, whichever comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Events in a window.
    pub max_events: usize,
    /// Bytes in a window.
    pub max_bytes: usize,
    /// Age of the oldest event in a window.
    pub max_wait: Duration,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            max_events: 10_000,
            max_bytes: 4 << 20,
            max_wait: Duration::from_millis(20),
        }
    }
}

/// Bounds of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Bytes of key, value and headers together.
    pub max_bytes: usize,
}

impl Default for Event {
    fn default() -> Self {
        Self {
            max_bytes: 1_000_000,
        }
    }
}

/// Exponential backoff with full jitter.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Upper bound of the first pause.
    pub initial_backoff: Duration,
    /// Upper bound of every pause.
    pub max_backoff: Duration,
    /// Growth of the bound from one pause to the next, at least 1.
    pub multiplier: f64,
    /// Further attempts on a failure that may be permanent. Outages are retried without end.
    pub max_retries: u32,
}

impl Retry {
    /// The pauses between tries.
    pub fn policy(&self) -> RetryPolicy {
        RetryPolicy {
            initial: self.initial_backoff,
            max: self.max_backoff,
            multiplier: self.multiplier,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(30),
            multiplier: 2.0,
            max_retries: 5,
        }
    }
}

/// When the pipeline counts as late: exposed as metrics, which alert rules compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sla {
    /// Age of the oldest committed event that is not yet durable in Kafka.
    pub publish_lag: Duration,
    /// Committed events that are not yet durable in Kafka.
    pub backlog: u64,
}

impl Default for Sla {
    fn default() -> Self {
        Self {
            publish_lag: Duration::from_secs(30),
            backlog: 10_000,
        }
    }
}

/// Which rows from before the slot are published, and in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfill {
    /// As it was given: `none`, `pending`, `all` or `since:TIMESTAMP`.
    pub rows: String,
    /// Column of the order; the event's id decides between equals.
    pub order_by: Option<String>,
}

/// Rows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows<'a> {
    /// None of them.
    None,
    /// Those whose state says that they are not published.
    Pending,
    /// All of them.
    All,
    /// Those of events that occurred at this time or later.
    Since(&'a str),
}

impl Default for Backfill {
    fn default() -> Self {
        Self {
            rows: "none".into(),
            order_by: None,
        }
    }
}

impl Backfill {
    /// Which rows.
    pub fn rows(&self) -> Rows<'_> {
        Rows::read(&self.rows).unwrap_or(Rows::None)
    }

    /// Whether there may be any.
    pub fn is_wanted(&self) -> bool {
        self.rows() != Rows::None
    }
}

impl<'a> Rows<'a> {
    /// Reads the text form.
    pub fn read(text: &'a str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "pending" => Some(Self::Pending),
            "all" => Some(Self::All),
            since => {
                let time = since.strip_prefix("since:")?;
                is_timestamp(time).then_some(Self::Since(time))
            }
        }
    }
}

/// Begins as an ISO date does; Postgres reads the rest.
pub fn is_timestamp(text: &str) -> bool {
    let date = text.get(..10).unwrap_or_default().as_bytes();
    let is_date = date.len() == 10
        && date.iter().enumerate().all(|(index, byte)| match index {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    is_date
        && text.len() <= 40
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || "-+:. TZ".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_backfill_are_read_from_their_text() {
        let cases = [
            ("none", Some(Rows::None)),
            ("pending", Some(Rows::Pending)),
            ("all", Some(Rows::All)),
            ("since:2026-01-31", Some(Rows::Since("2026-01-31"))),
            (
                "since:2026-01-31T10:00:00.5+02:00",
                Some(Rows::Since("2026-01-31T10:00:00.5+02:00")),
            ),
            ("since:", None),
            ("since:yesterday", None),
            ("since:2026-01-31' OR true", None),
            ("everything", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Rows::read(text), expected, "{text}");
        }
    }
}
