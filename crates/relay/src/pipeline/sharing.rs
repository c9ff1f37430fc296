//! What pipelines of one process leave to each other.
//!
//! Each commit of a cluster wakes the walsenders of all its slots, and each of those that has nothing to send
//! sends a keepalive. So with many databases of one cluster in a process, both wake-ups and commits cost in
//! proportion to the square of their number.

use std::time::Duration;

/// A few keepalives are taken in together.
const REST_PER_OTHER: Duration = Duration::from_micros(200);
/// An event, and each answer of Kafka, may have to wait that long.
const REST_MAX: Duration = Duration::from_millis(10);
/// A hundred small windows a second do not become as many commits.
const WRITE_BACK_PACE: Duration = Duration::from_millis(20);
/// States, and with them the confirmed LSN, may be that old.
const WRITE_BACK_PACE_MAX: Duration = Duration::from_secs(1);

/// So many pipelines share a process.
#[derive(Clone, Copy, Debug)]
pub struct Sharing(pub u32);

impl Sharing {
    /// How long one of them rests once it has taken in all there was.
    pub fn rest(self) -> Duration {
        let others = self.0.saturating_sub(1);
        REST_PER_OTHER.saturating_mul(others).min(REST_MAX)
    }

    /// The time between two batches of states of one of them.
    pub fn write_back_pace(self) -> Duration {
        let pace = WRITE_BACK_PACE.saturating_mul(self.0);
        pace.min(WRITE_BACK_PACE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_pipeline_alone_never_rests() {
        for pipelines in [0, 1] {
            assert_eq!(Sharing(pipelines).rest(), Duration::ZERO);
        }
        assert_eq!(Sharing(6).rest(), MS);
        assert_eq!(Sharing(u32::MAX).rest(), REST_MAX);
    }

    #[test]
    fn up_to_fifty_pipelines_write_back_as_often_as_one() {
        for pipelines in [1, 7, 50] {
            assert_eq!(Sharing(pipelines).write_back_pace(), 20 * pipelines * MS);
        }
        assert_eq!(Sharing(500).write_back_pace(), WRITE_BACK_PACE_MAX);
    }
}
