//! What happens to events that can't be published.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use delivery::{OnDeadLetter, TablePolicy, WriteBack};
use envelope::{TableId, TableSpec};

use super::pipeline::{Pipeline, SinkKind};

/// The dead letters of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterSpec {
    /// Their topic.
    pub topic: String,
    /// What happens to later events.
    pub on_dead_letter: OnDeadLetter,
}

impl Default for DeadLetterSpec {
    fn default() -> Self {
        Self {
            topic: "outbox.dead-letter".into(),
            on_dead_letter: OnDeadLetter::default(),
        }
    }
}

/// Bounds of all dead letters of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterBounds {
    /// Largest one; what is larger is only described.
    pub max_bytes: usize,
    /// More in a minute halt the pipeline.
    pub max_per_minute: usize,
    /// More parked keys halt it.
    pub max_parked_keys: usize,
}

impl Default for DeadLetterBounds {
    fn default() -> Self {
        Self {
            max_bytes: 8 << 20,
            max_per_minute: 10_000,
            max_parked_keys: 10_000,
        }
    }
}

static DEFAULT: LazyLock<DeadLetterSpec> = LazyLock::new(DeadLetterSpec::default);

/// What a record takes beside key, value and the event's headers, at most.
const RECORD_FIELDS: usize = 65_536;

impl Pipeline {
    /// Bytes of the largest dead letter: one that the client is not allowed to send becomes a stub.
    pub fn largest_dead_letter(&self) -> usize {
        let allowed = self.kafka.properties.get("message.max.bytes");
        let allowed = allowed.and_then(|bytes| bytes.expose().parse::<usize>().ok());
        let allowed = allowed.map_or(usize::MAX, |bytes| bytes.saturating_sub(RECORD_FIELDS));
        self.dead_letter_bounds.max_bytes.min(allowed)
    }

    /// Bytes of the largest record, with its own fields and the headers of a dead letter.
    pub fn largest_record(&self) -> usize {
        self.event.max_bytes.max(self.dead_letter_bounds.max_bytes) + RECORD_FIELDS
    }

    /// The dead letters of a table.
    pub fn dead_letter(&self, table: TableId) -> &DeadLetterSpec {
        self.dead_letters
            .get(usize::from(table.0))
            .unwrap_or(&DEFAULT)
    }

    /// The dead-letter topics of a service, or of all.
    pub fn dead_letter_topics(&self, service: Option<&str>) -> BTreeSet<&str> {
        let is_of = |table: &TableSpec| service.is_none_or(|service| service == table.service);
        let tables = self.outboxes().filter(|(_, table, _)| is_of(table));
        tables
            .map(|(id, ..)| self.dead_letter(id).topic.as_str())
            .collect()
    }

    /// For the state machine.
    pub fn table_policies(&self) -> Vec<TablePolicy> {
        let policy = |(id, _, state): (TableId, _, &super::StateSpec)| {
            let dead_letter = self.dead_letter(id);
            TablePolicy {
                dead_letter_topic: dead_letter.topic.clone(),
                on_dead_letter: dead_letter.on_dead_letter,
                write_back: match self.sink {
                    SinkKind::Stdout => WriteBack::Off,
                    SinkKind::Kafka => state.mode,
                },
            }
        };
        self.outboxes().map(policy).collect()
    }
}
