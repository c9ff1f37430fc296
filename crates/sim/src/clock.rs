//! Virtual time.

use std::time::{Duration, Instant};

use pgoutput::PgTimestamp;

/// 2026-01-01 00:00 UTC in microseconds since 1970.
const EPOCH_UNIX_MICROS: i64 = 1_767_225_600_000_000;

/// A clock that moves only when it is told to.
///
/// The production code wants an [`Instant`], which can't be made from a number: one is read when
/// the run starts, and only distances to it ever matter.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    elapsed: Duration,
}

impl Clock {
    /// A clock at its start.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            elapsed: Duration::ZERO,
        }
    }

    /// Time passes.
    pub fn advance(&mut self, by: Duration) {
        self.elapsed += by;
    }

    /// Since the start of the run.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// What the relay's clock shows.
    pub fn now(&self) -> Instant {
        self.start + self.elapsed
    }

    /// What the server's clock shows.
    pub fn timestamp(&self) -> PgTimestamp {
        let micros = i64::try_from(self.elapsed.as_micros()).unwrap_or(i64::MAX);
        PgTimestamp::from_unix_micros(EPOCH_UNIX_MICROS.saturating_add(micros))
    }
}
