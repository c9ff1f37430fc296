//! How far a partition is handled, and how late it is.

use std::collections::VecDeque;

/// Without a word from the broker for so long, nobody knows whether the partition goes on.
const PROOF_LASTS_MS: i64 = 5_000;

/// One partition, from its assignment on. All times are milliseconds since 1970-01-01 UTC.
#[derive(Debug)]
pub(crate) struct Progress {
    /// What was received and is not handled, or is behind something that is not.
    open: VecDeque<Received>,
    open_bytes: usize,
    /// The next event is here or behind.
    next: Option<i64>,
    /// Timestamp of the last event that is out of `open`.
    behind_ms: Option<i64>,
    end: End,
}

#[derive(Debug)]
struct Received {
    offset: i64,
    timestamp_ms: i64,
    bytes: usize,
    is_settled: bool,
}

/// What is known of the partition's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing was heard since the assignment.
    Unknown { since_ms: i64 },
    /// An event came after the last word that the end is reached.
    Beyond,
    /// Everything up to the end was received, and the broker said so at this time.
    Reached { proven_ms: i64 },
}

impl Progress {
    /// Just assigned, to be read from `next` on if that is known.
    pub fn new(now_ms: i64, next: Option<i64>) -> Self {
        Self {
            open: VecDeque::new(),
            open_bytes: 0,
            next,
            behind_ms: None,
            end: End::Unknown { since_ms: now_ms },
        }
    }

    /// Where the next event will be, or behind it.
    pub fn next(&self) -> Option<i64> {
        self.next
    }

    /// An event came in, not before [`next`](Self::next).
    pub fn received(&mut self, offset: i64, timestamp_ms: i64, bytes: usize) {
        self.open_bytes += bytes;
        self.next = Some(offset + 1);
        self.end = End::Beyond;
        self.open.push_back(Received {
            offset,
            timestamp_ms,
            bytes,
            is_settled: false,
        });
    }

    /// An event is done with: handled, a duplicate, skipped, or a dead letter.
    pub fn settled(&mut self, offset: i64) {
        if let Ok(found) = self
            .open
            .binary_search_by_key(&offset, |event| event.offset)
        {
            self.open[found].is_settled = true;
        }
        while self.open.front().is_some_and(|event| event.is_settled) {
            if let Some(event) = self.open.pop_front() {
                self.behind_ms = Some(event.timestamp_ms);
                self.open_bytes -= event.bytes;
            }
        }
    }

    /// The broker said that nothing follows what was received.
    pub fn reached_end(&mut self, now_ms: i64) {
        self.end = End::Reached { proven_ms: now_ms };
    }

    /// The broker answers, and has not said that the end is not reached any more.
    pub fn proven(&mut self, now_ms: i64) {
        if let End::Reached { proven_ms } = &mut self.end {
            *proven_ms = now_ms;
        }
    }

    /// The offset to commit: everything before it is settled. `None` if nothing was received.
    pub fn committable(&self) -> Option<i64> {
        match self.open.front() {
            Some(event) => Some(event.offset),
            None => self.next,
        }
    }

    /// Events that were received and are not done with, or are behind one that is not.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Bytes of these.
    pub fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// Age of the oldest event that is not handled; exactly 0 when caught up. Where it can't be known,
    /// the time since it last could.
    pub fn lag_ms(&self, now_ms: i64) -> i64 {
        let since = match (self.open.front(), self.end) {
            (Some(event), _) => event.timestamp_ms,
            (None, End::Reached { proven_ms }) if now_ms - proven_ms <= PROOF_LASTS_MS => now_ms,
            (None, End::Reached { proven_ms }) => proven_ms,
            // What comes next is not older than the last one.
            (None, End::Beyond) => self.behind_ms.unwrap_or(now_ms),
            (None, End::Unknown { since_ms }) => since_ms,
        };
        (now_ms - since).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(offsets: &[i64]) -> Progress {
        let mut progress = Progress::new(0, None);
        for offset in offsets {
            progress.received(*offset, offset * 1000, 8);
        }
        progress
    }

    #[test]
    fn only_what_is_settled_without_a_gap_can_be_committed() {
        let mut progress = received(&[10, 11, 13, 14]);
        assert_eq!(progress.committable(), Some(10));
        progress.settled(11);
        progress.settled(14);
        assert_eq!(progress.committable(), Some(10));
        assert_eq!((progress.open(), progress.open_bytes()), (4, 32));
        progress.settled(10);
        assert_eq!(
            progress.committable(),
            Some(13),
            "12 is a transaction's marker"
        );
        progress.settled(13);
        assert_eq!(progress.committable(), Some(15));
        assert_eq!((progress.open(), progress.open_bytes()), (0, 0));
    }

    #[test]
    fn what_was_not_received_settles_nothing() {
        let mut progress = received(&[10]);
        progress.settled(9);
        progress.settled(11);
        assert_eq!(progress.committable(), Some(10));
        assert_eq!(Progress::new(0, None).committable(), None);
    }

    #[test]
    fn lag_is_the_age_of_the_oldest_event_that_is_not_handled() {
        let mut progress = received(&[10, 11, 12]);
        assert_eq!(progress.lag_ms(20_000), 10_000);
        progress.settled(11);
        assert_eq!(progress.lag_ms(21_000), 11_000, "10 is still open");
        progress.settled(10);
        assert_eq!(progress.lag_ms(21_000), 9_000);
    }

    #[test]
    fn lag_is_zero_at_the_end_and_only_there() {
        let mut progress = received(&[10]);
        progress.reached_end(11_000);
        assert_eq!(
            progress.lag_ms(12_000),
            2_000,
            "the end is received, not handled"
        );
        progress.settled(10);
        assert_eq!(progress.lag_ms(12_000), 0);
        progress.received(11, 12_000, 8);
        progress.settled(11);
        assert_eq!(progress.lag_ms(12_300), 300, "more may follow");
        progress.reached_end(12_400);
        assert_eq!(progress.lag_ms(12_500), 0);
    }

    #[test]
    fn without_proof_lag_grows_from_the_last_one() {
        let mut progress = Progress::new(1_000, None);
        assert_eq!(progress.lag_ms(3_000), 2_000);
        progress.reached_end(3_000);
        assert_eq!(progress.lag_ms(7_000), 0);
        progress.proven(7_000);
        assert_eq!(progress.lag_ms(12_000), 0);
        assert_eq!(progress.lag_ms(13_000), 6_000, "the broker is silent");
        progress.proven(13_000);
        assert_eq!(progress.lag_ms(13_000), 0);
    }

    #[test]
    fn proof_of_the_broker_is_no_word_of_the_end() {
        let mut progress = received(&[10]);
        progress.settled(10);
        progress.proven(20_000);
        assert_eq!(progress.lag_ms(20_000), 10_000);
    }

    #[test]
    fn clocks_that_differ_make_no_negative_lag() {
        assert_eq!(received(&[10]).lag_ms(9_000), 0);
    }
}
