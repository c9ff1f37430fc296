//! What has become of each event of a batch. Pure.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use super::Item;
use crate::error::Error;
use crate::failure::Failure;
use crate::order::Lane;

/// What has become of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The consumer goes on behind it.
    Settled(How),
    /// To be tried again after this time; its lane waits as long.
    Again(Duration),
    /// It was not tried, or in vain through no fault of its own.
    Back,
}

/// How an event was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Its handler's transaction is committed.
    Handled,
    /// It was handled before.
    Duplicate,
    /// It has no handler, and was passed over.
    Skipped,
    /// It is a dead letter.
    Dead,
}

/// The end of a batch.
#[derive(Debug)]
pub(crate) struct Report {
    /// Each event of the batch, in order.
    pub items: Vec<(Item, Outcome)>,
    /// The database or the dead-letter topic is away.
    pub unavailable: Option<Failure>,
    /// The partitions are handled by another consumer already.
    pub is_moved: bool,
    /// The consumer is to stop.
    pub stop: Option<Error>,
}

/// One try of some events in one transaction.
#[derive(Debug)]
pub(super) enum Tried {
    /// Committed.
    Done,
    /// Rolled back; whose fault it is, if that is known.
    Failed(Option<usize>, Failure),
    /// Refused: another consumer was faster.
    Moved,
    /// A handler has ended the transaction.
    Ended,
}

/// A batch while it is handled.
#[derive(Debug)]
pub(super) struct Run {
    pub items: Vec<Item>,
    outcomes: Vec<Outcome>,
    /// Lanes in which something must come first, later, and its place in the batch.
    blocked: HashMap<Lane, usize>,
    stop: Option<Error>,
}

impl Run {
    pub fn new(items: Vec<Item>) -> Self {
        Self {
            outcomes: vec![Outcome::Back; items.len()],
            items,
            blocked: HashMap::new(),
            stop: None,
        }
    }

    /// Events that are to become dead letters.
    pub fn doomed(&self) -> impl Iterator<Item = usize> {
        let items = self.items.iter().enumerate();
        let doomed = items.filter(|(_, item)| item.doom.is_some() && !item.is_buried);
        doomed.map(|(at, _)| at)
    }

    /// Events of the range that may run, or be passed over, now.
    pub fn free(&self, range: Range<usize>) -> Vec<usize> {
        let is_free = |at: &usize| match self.blocked.get(&self.items[*at].lane) {
            Some(blocked) => at < blocked,
            None => true,
        };
        range.filter(is_free).collect()
    }

    pub fn settled(&mut self, at: usize, how: How) {
        self.outcomes[at] = Outcome::Settled(how);
    }

    pub fn again(&mut self, at: usize, wait: Duration) {
        // Behind another one of its lane that waits it waits anyway.
        if self.block(at) {
            self.outcomes[at] = Outcome::Again(wait);
        }
    }

    /// The consumer can't go on behind this event.
    pub fn stop(&mut self, at: usize, error: Error) {
        self.block(at);
        self.stop.get_or_insert(error);
    }

    /// Whether it is the first of its lane that does not go on.
    fn block(&mut self, at: usize) -> bool {
        let first = self.blocked.entry(self.items[at].lane).or_insert(at);
        *first == at
    }

    pub fn report(self, unavailable: Option<Failure>) -> Report {
        Report {
            items: self.items.into_iter().zip(self.outcomes).collect(),
            unavailable,
            is_moved: false,
            stop: self.stop,
        }
    }

    pub fn report_moved(self) -> Report {
        Report {
            is_moved: true,
            ..self.report(None)
        }
    }
}

/// The parts in which a range that failed as a whole is tried next.
pub(super) fn divide(range: &Range<usize>, culprit: Option<usize>) -> Vec<Range<usize>> {
    let parts = match culprit {
        Some(at) => vec![range.start..at, at..at + 1, at + 1..range.end],
        None => {
            let middle = range.start + range.len() / 2;
            vec![range.start..middle, middle..range.end]
        }
    };
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_culprit_is_put_alone() {
        assert_eq!(divide(&(0..5), Some(2)), [0..2, 2..3, 3..5]);
        assert_eq!(divide(&(0..5), Some(0)), [0..1, 1..5]);
        assert_eq!(divide(&(3..5), Some(4)), [3..4, 4..5]);
    }

    #[test]
    fn an_unknown_one_is_looked_for_in_halves() {
        assert_eq!(divide(&(0..5), None), [0..2, 2..5]);
        assert_eq!(divide(&(4..6), None), [4..5, 5..6]);
    }
}
