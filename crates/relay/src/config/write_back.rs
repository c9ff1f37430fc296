//! What is written back to the outbox tables, and how long their rows are kept.

use std::sync::LazyLock;
use std::time::Duration;

use delivery::WriteBack;
use envelope::{OptionalColumn, TableId, TableSpec};

use super::pipeline::{Pipeline, SinkKind};

/// The state columns of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSpec {
    /// Which outcomes are written.
    pub mode: WriteBack,
    /// Column of PENDING, SENT or FAILED: text or an enum. It must exist unless `mode` is off.
    pub state: String,
    /// Column of the number of attempts.
    pub attempts: OptionalColumn,
    /// Column of the last error.
    pub last_error: OptionalColumn,
}

impl Default for StateSpec {
    fn default() -> Self {
        Self {
            mode: WriteBack::default(),
            state: "state".into(),
            attempts: OptionalColumn::IfPresent("attempts".into()),
            last_error: OptionalColumn::IfPresent("last_error".into()),
        }
    }
}

/// The write-back of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteBackBounds {
    /// Rows that wait to be written back; beyond, they are left to be streamed again.
    pub max_pending: usize,
}

impl Default for WriteBackBounds {
    fn default() -> Self {
        Self {
            max_pending: 500_000,
        }
    }
}

/// How long published rows are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Age at which they are removed; `None` keeps them.
    pub period: Option<Duration>,
    /// From one round to the next.
    pub interval: Duration,
    /// Rows removed by one statement.
    pub batch: usize,
    /// Between two statements that remove rows.
    pub pause: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            period: None,
            interval: Duration::from_secs(60),
            batch: 1_000,
            pause: Duration::from_millis(50),
        }
    }
}

static DEFAULT_STATE: LazyLock<StateSpec> = LazyLock::new(StateSpec::default);

impl Pipeline {
    /// Every table with its state columns.
    pub fn outboxes(&self) -> impl Iterator<Item = (TableId, &TableSpec, &StateSpec)> {
        (0..).zip(&self.tables).map(|(index, table)| {
            let state = self.states.get(usize::from(index));
            (TableId(index), table, state.unwrap_or(&DEFAULT_STATE))
        })
    }

    /// The tables that something is written back to. Standard output has no outcomes.
    pub fn written_back(&self) -> impl Iterator<Item = (TableId, &TableSpec, &StateSpec)> {
        let keeps_state = self.sink == SinkKind::Kafka;
        self.outboxes()
            .filter(move |(_, _, state)| keeps_state && state.mode != WriteBack::Off)
    }
}
