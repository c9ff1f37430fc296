//! The time of day, reckoned from the time that the driver passes in.

use std::time::Instant;

use pgoutput::PgTimestamp;

/// Knows the time of day at one instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub began: Instant,
    pub wall: PgTimestamp,
}

impl Clock {
    /// The time of day at `now`.
    pub fn at(self, now: Instant) -> PgTimestamp {
        let since = now.duration_since(self.began).as_micros();
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        PgTimestamp(self.wall.0.saturating_add(since))
    }
}
