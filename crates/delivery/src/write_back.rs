//! Rows whose outcome is being written to their tables, and how far that holds the slot.

use std::collections::VecDeque;
use std::fmt;

use pgoutput::Lsn;

use crate::Outcome;

/// Numbers what is written back in one session, in order, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarksId(pub u64);

/// What an outbox table is told of its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WriteBack {
    /// Every outcome.
    #[default]
    All,
    /// What is dead.
    Failures,
    /// Nothing.
    Off,
}

impl WriteBack {
    /// Whether it is told that.
    pub fn takes(self, outcome: &Outcome<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Failures => *outcome != Outcome::Sent,
            Self::Off => false,
        }
    }
}

impl fmt::Display for WriteBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Failures => "failures",
            Self::Off => "off",
        })
    }
}

/// Everything below is written back once what was submitted before is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Floor {
    /// Of the stream: what commits below.
    pub lsn: Lsn,
    /// Of the feed: the rows up to this one.
    pub fed: u64,
}

impl Floor {
    /// Below both.
    fn min(self, other: Self) -> Self {
        Self {
            lsn: self.lsn.min(other.lsn),
            fed: self.fed.min(other.fed),
        }
    }
}

#[derive(Debug)]
struct Pending {
    id: MarksId,
    floor: Floor,
    rows: usize,
}

/// The marks that are under way, in order.
#[derive(Debug)]
pub(crate) struct WriteBacks {
    pending: VecDeque<Pending>,
    rows: usize,
    max_rows: usize,
    next: u64,
    /// What was not submitted begins here: the slot is not to be confirmed beyond.
    dropped_from: Option<Floor>,
}

impl WriteBacks {
    pub fn new(max_rows: usize) -> Self {
        Self {
            pending: VecDeque::new(),
            rows: 0,
            max_rows,
            next: 0,
            dropped_from: None,
        }
    }

    /// Takes marks in; `None` when there are too many under way: they are left to a later session,
    /// to which the slot sends their rows again.
    pub fn submit(&mut self, floor: Floor, rows: usize) -> Option<MarksId> {
        if self.dropped_from.is_none() && !self.has_room_for(rows) {
            self.dropped_from = Some(floor);
        }
        if self.dropped_from.is_some_and(|from| floor.lsn >= from.lsn) {
            return None;
        }
        let id = MarksId(self.next);
        self.next += 1;
        self.rows += rows;
        self.pending.push_back(Pending { id, floor, rows });
        Some(id)
    }

    /// They are written.
    pub fn done(&mut self, id: MarksId) {
        let oldest = self.pending.pop_front();
        let oldest = oldest.expect("only marks under way are done");
        assert_eq!(oldest.id, id, "marks are written in order");
        self.rows -= oldest.rows;
    }

    /// How far the slot may be confirmed, and the feed counts as told, for all that is to be written
    /// back; `None`: any far.
    pub fn bound(&self) -> Option<Floor> {
        let oldest = self.pending.front().map(|oldest| oldest.floor);
        let floors = oldest.into_iter().chain(self.dropped_from);
        floors.reduce(Floor::min)
    }

    /// Another feed begins: what was submitted before it says nothing of its rows.
    pub fn begin_feed(&mut self) {
        let pending = self.pending.iter_mut().map(|one| &mut one.floor);
        for floor in pending.chain(&mut self.dropped_from) {
            floor.fed = 0;
        }
    }

    /// So many more fit.
    pub fn has_room_for(&self, rows: usize) -> bool {
        self.rows == 0 || self.rows + rows <= self.max_rows
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The tables take marks again, and some were dropped: only a new session finds them.
    pub fn must_start_over(&self) -> bool {
        self.dropped_from.is_some() && self.pending.is_empty()
    }

    /// Some were given up: what comes now is left to the next session, too.
    pub fn has_dropped(&self) -> bool {
        self.dropped_from.is_some()
    }

    /// Gives up what would not fit.
    pub fn drop_from(&mut self, floor: Floor) {
        let before = self.dropped_from.map(|from| from.min(floor));
        self.dropped_from = Some(before.unwrap_or(floor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(lsn: u64) -> Floor {
        Floor {
            lsn: Lsn::from(lsn),
            fed: lsn,
        }
    }

    #[test]
    fn the_slot_is_held_before_the_oldest_marks_under_way() {
        let mut backs = WriteBacks::new(10);
        assert_eq!(backs.bound(), None);
        assert_eq!(backs.submit(floor(5), 3), Some(MarksId(0)));
        assert_eq!(backs.submit(floor(9), 3), Some(MarksId(1)));
        assert_eq!(backs.bound(), Some(floor(5)));
        backs.done(MarksId(0));
        assert_eq!(backs.bound(), Some(floor(9)));
        backs.done(MarksId(1));
        assert_eq!(backs.bound(), None);
    }

    #[test]
    fn what_does_not_fit_holds_the_slot_until_a_new_session() {
        let mut backs = WriteBacks::new(5);
        assert_eq!(backs.submit(floor(1), 4), Some(MarksId(0)));
        assert_eq!(backs.submit(floor(5), 4), None);
        assert_eq!(backs.submit(floor(9), 1), None);
        assert!(!backs.must_start_over());
        backs.done(MarksId(0));
        assert!(backs.must_start_over());
        assert_eq!(backs.bound(), Some(floor(5)));
    }

    #[test]
    fn what_is_dropped_later_from_an_earlier_place_on_holds_the_slot_there() {
        let mut backs = WriteBacks::new(5);
        backs.drop_from(floor(9));
        backs.drop_from(floor(4));
        backs.drop_from(floor(7));
        assert_eq!(backs.bound(), Some(floor(4)));
    }

    #[test]
    fn what_was_submitted_before_a_feed_says_nothing_of_it() {
        let mut backs = WriteBacks::new(5);
        assert_eq!(backs.submit(floor(7), 4), Some(MarksId(0)));
        backs.drop_from(floor(9));
        backs.begin_feed();
        let beginning = |lsn| Floor {
            fed: 0,
            ..floor(lsn)
        };
        assert_eq!(backs.bound(), Some(beginning(7)));
        backs.done(MarksId(0));
        assert_eq!(backs.bound(), Some(beginning(9)));
    }

    #[test]
    fn one_window_that_is_larger_than_the_bound_is_taken_all_the_same() {
        let mut backs = WriteBacks::new(5);
        assert_eq!(backs.submit(floor(1), 40), Some(MarksId(0)));
    }
}
