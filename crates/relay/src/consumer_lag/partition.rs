//! What a group has still to handle of one partition.

use std::ops::Range;
use std::time::Instant;

use producer::Found;

use crate::telemetry::TopicLag;

/// Where the group goes on, and where it would be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The first offset that the group has not handled, or a later one that is kept.
    pub position: i64,
    /// Behind the last record whose transaction has ended.
    pub end: i64,
}

#[derive(Debug)]
pub(super) struct Partition {
    span: Span,
    /// Offsets from a position on that hold no event: only markers, and records of aborted transactions.
    clear: Range<i64>,
    next: Next,
    /// When `next` was last known to be true.
    confirmed: Instant,
}

/// The oldest event that is not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Not known. None was known then.
    Unknown { since: Instant },
    /// There is none up to the end.
    Nothing,
    /// This one. While another one is looked for, a bound: that can't be older.
    Event { offset: i64, timestamp_ms: i64 },
}

impl Partition {
    pub fn new(now: Instant) -> Self {
        Self {
            span: Span {
                position: 0,
                end: 0,
            },
            clear: 0..0,
            next: Next::Unknown { since: now },
            confirmed: now,
        }
    }

    /// Takes in how far the group is. Returns the offset from which the next event must be looked for.
    pub fn update(&mut self, span: Span, now: Instant) -> Option<i64> {
        self.span = span;
        let position = span.position;
        if !(self.clear.start <= position && position <= self.clear.end) {
            self.clear = position..position;
        }
        let from = self.clear.end;
        self.next = match self.next {
            _ if from >= span.end => Next::Nothing,
            Next::Event { offset, .. } if offset == from => self.next,
            Next::Nothing => {
                let since = self.confirmed;
                self.next = Next::Unknown { since };
                return Some(from);
            }
            Next::Event { .. } | Next::Unknown { .. } => return Some(from),
        };
        self.confirmed = now;
        None
    }

    /// Takes in what was found from that offset on.
    pub fn looked(&mut self, found: &Found, now: Instant, now_ms: i64) {
        match *found {
            Found::Record {
                offset,
                timestamp_ms,
            } => {
                self.clear.end = offset;
                let timestamp_ms = timestamp_ms.unwrap_or(now_ms);
                self.next = Next::Event {
                    offset,
                    timestamp_ms,
                };
                self.confirmed = now;
            }
            Found::End { offset } => {
                self.clear.end = offset.max(self.clear.end);
                // A leader that is behind says so too early.
                if offset >= self.span.end {
                    self.next = Next::Nothing;
                    self.confirmed = now;
                }
            }
            Found::Refused(_) => {}
        }
    }

    /// Adds this partition to those of its topic.
    pub fn add_to(&self, topic: &mut TopicLag) {
        match self.next {
            Next::Unknown { since } => topic.unknown(since),
            Next::Nothing => topic.caught_up(self.confirmed),
            Next::Event { timestamp_ms, .. } => topic.event(timestamp_ms),
        }
        let records = self.span.end.saturating_sub(self.clear.end).max(0);
        topic.records += records.unsigned_abs();
    }

    /// When the lag was last known.
    pub fn confirmed(&self) -> Instant {
        match self.next {
            Next::Unknown { since } => since,
            Next::Nothing | Next::Event { .. } => self.confirmed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PROOF: Duration = Duration::from_secs(6);

    fn record(offset: i64, timestamp_ms: i64) -> Found {
        Found::Record {
            offset,
            timestamp_ms: Some(timestamp_ms),
        }
    }

    fn span(position: i64, end: i64) -> Span {
        Span { position, end }
    }

    /// Seconds and records, so long after the start; the clock shows 100 s then.
    fn shown(partition: &Partition, start: Instant, seconds: u64) -> (u64, u64) {
        let mut topic = TopicLag::default();
        partition.add_to(&mut topic);
        let now = start + Duration::from_secs(seconds);
        let now_ms = 100_000 + i64::try_from(seconds).unwrap_or_default() * 1000;
        (topic.age(now, now_ms, PROOF).as_secs(), topic.records)
    }

    #[test]
    fn a_stopped_group_costs_one_look_and_its_lag_is_the_age_of_the_next_event() {
        let start = Instant::now();
        let mut partition = Partition::new(start);
        assert_eq!(partition.update(span(5, 9), start), Some(5));
        partition.looked(&record(6, 90_000), start, 100_000);
        assert_eq!(shown(&partition, start, 0), (10, 3));
        for second in 1..4 {
            let now = start + Duration::from_secs(second);
            assert_eq!(partition.update(span(5, 9 + 2), now), None);
            assert_eq!(shown(&partition, start, second), (10 + second, 5));
        }
        assert_eq!(partition.update(span(6, 11), start), None, "5 is a marker");
        assert_eq!(partition.update(span(7, 11), start), Some(7));
        assert_eq!(shown(&partition, start, 0).0, 10, "the next is not older");
    }

    #[test]
    fn markers_alone_are_no_lag_and_are_looked_at_once() {
        let start = Instant::now();
        let mut partition = Partition::new(start);
        assert_eq!(partition.update(span(5, 6), start), Some(5));
        partition.looked(&Found::End { offset: 6 }, start, 100_000);
        assert_eq!(shown(&partition, start, 0), (0, 0));
        assert_eq!(partition.update(span(5, 6), start), None);
        assert_eq!(partition.update(span(5, 8), start), Some(6));
        partition.looked(&record(6, 99_000), start, 100_000);
        assert_eq!(shown(&partition, start, 0), (1, 2));
        assert_eq!(partition.update(span(8, 8), start), None);
        assert_eq!(shown(&partition, start, 0), (0, 0));
    }

    #[test]
    fn lag_grows_from_the_last_proof_while_it_is_not_known() {
        let start = Instant::now();
        let mut partition = Partition::new(start);
        assert_eq!(shown(&partition, start, 3), (3, 0));
        assert_eq!(partition.update(span(5, 5), start), None);
        assert_eq!(shown(&partition, start, 6), (0, 0));
        assert_eq!(shown(&partition, start, 7), (7, 0), "nobody has answered");
        // Something has come, and what it is nobody has said yet.
        let later = start + Duration::from_secs(8);
        assert_eq!(partition.update(span(5, 7), later), Some(5));
        assert_eq!(shown(&partition, start, 9), (9, 2));
        assert_eq!(partition.confirmed(), start);
    }

    #[test]
    fn an_end_before_the_known_one_is_no_proof() {
        let start = Instant::now();
        let mut partition = Partition::new(start);
        assert_eq!(partition.update(span(5, 9), start), Some(5));
        partition.looked(&Found::End { offset: 7 }, start, 100_000);
        assert_eq!(shown(&partition, start, 2), (2, 2));
        assert_eq!(partition.update(span(5, 9), start), Some(7));
    }

    #[test]
    fn offsets_that_go_back_are_looked_at_again() {
        let start = Instant::now();
        let mut partition = Partition::new(start);
        assert_eq!(partition.update(span(9, 9), start), None);
        assert_eq!(partition.update(span(2, 9), start), Some(2));
        partition.looked(&record(2, 40_000), start, 100_000);
        assert_eq!(shown(&partition, start, 0), (60, 7));
    }
}
