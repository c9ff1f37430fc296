//! How long WAL has been waiting for its confirmation, as far as looks at the catalog tell.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pgoutput::Lsn;

/// Half of the ends are forgotten when there are so many, and the age becomes coarser.
const ENDS_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    /// Ends of the WAL beyond the slot's LSN and when each was first seen, in ascending order.
    ends: VecDeque<(Lsn, Instant)>,
    confirmed: Lsn,
    moved: Option<Instant>,
}

impl Unconfirmed {
    /// A look at the slot.
    pub fn looked(&mut self, wal_end: Lsn, confirmed: Lsn, now: Instant) {
        if self.confirmed != confirmed || self.moved.is_none() {
            self.moved = Some(now);
        }
        self.confirmed = confirmed;
        while self.ends.front().is_some_and(|(end, _)| *end <= confirmed) {
            self.ends.pop_front();
        }
        let last = self.ends.back().map_or(confirmed, |(end, _)| *end);
        if wal_end > last {
            self.ends.push_back((wal_end, now));
        }
        if self.ends.len() > ENDS_MAX {
            let mut index = 0;
            self.ends.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }

    /// Age of the oldest WAL that is not confirmed; zero when all of it is.
    pub fn age(&self, now: Instant) -> Duration {
        let oldest = self.ends.front();
        oldest.map_or(Duration::ZERO, |(_, at)| now.duration_since(*at))
    }

    /// For how long nothing has been confirmed though there was WAL to confirm.
    pub fn stalled(&self, now: Instant) -> Duration {
        let still = self
            .moved
            .map_or(Duration::ZERO, |at| now.duration_since(at));
        still.min(self.age(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn age_is_that_of_the_oldest_end_not_confirmed() {
        let start = Instant::now();
        let mut slot = Unconfirmed::default();
        slot.looked(Lsn::from(10), Lsn::from(10), start);
        assert_eq!(slot.age(start + SECOND), Duration::ZERO);
        slot.looked(Lsn::from(20), Lsn::from(10), start + SECOND);
        slot.looked(Lsn::from(30), Lsn::from(10), start + 2 * SECOND);
        assert_eq!(slot.age(start + 5 * SECOND), 4 * SECOND);
        assert_eq!(slot.stalled(start + 5 * SECOND), 4 * SECOND);
        slot.looked(Lsn::from(30), Lsn::from(20), start + 5 * SECOND);
        assert_eq!(slot.age(start + 5 * SECOND), 3 * SECOND);
        assert_eq!(slot.stalled(start + 5 * SECOND), Duration::ZERO);
        slot.looked(Lsn::from(30), Lsn::from(30), start + 6 * SECOND);
        assert_eq!(slot.age(start + 9 * SECOND), Duration::ZERO);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_end_is_kept() {
        let start = Instant::now();
        let mut slot = Unconfirmed::default();
        let looks = 10 * ENDS_MAX as u32;
        for look in 0..looks {
            let end = Lsn::from(u64::from(look) + 2);
            slot.looked(end, Lsn::from(1), start + look * SECOND);
            assert!(slot.ends.len() <= ENDS_MAX);
        }
        assert_eq!(slot.age(start + looks * SECOND), looks * SECOND);
    }
}
