//! Postgres's reckoning of time.

/// Microseconds from 1970-01-01 to 2000-01-01, both UTC: 10 957 days.
const EPOCH_UNIX_MICROS: i64 = 10_957 * 86_400 * 1_000_000;

/// Microseconds since 2000-01-01 00:00 UTC, negative before (`TimestampTz`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTimestamp(pub i64);

impl PgTimestamp {
    /// The same instant in microseconds since 1970-01-01 UTC, saturating at the range's end.
    pub const fn unix_micros(self) -> i64 {
        self.0.saturating_add(EPOCH_UNIX_MICROS)
    }

    /// The instant `micros` microseconds after 1970-01-01 UTC, saturating at the range's start.
    pub const fn from_unix_micros(micros: i64) -> PgTimestamp {
        PgTimestamp(micros.saturating_sub(EPOCH_UNIX_MICROS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_2000() {
        // date --date=2000-01-01T00:00:00Z +%s
        assert_eq!(PgTimestamp(0).unix_micros(), 946_684_800_000_000);
        assert_eq!(PgTimestamp(-1).unix_micros(), 946_684_799_999_999);
        assert_eq!(
            PgTimestamp::from_unix_micros(946_684_800_000_001),
            PgTimestamp(1)
        );
    }

    #[test]
    fn saturates_beyond_the_range() {
        assert_eq!(PgTimestamp(i64::MAX).unix_micros(), i64::MAX);
        assert_eq!(
            PgTimestamp::from_unix_micros(i64::MIN),
            PgTimestamp(i64::MIN)
        );
    }
}
