//! Which events may run now.

use std::collections::{HashMap, VecDeque};

use super::{Lane, Slot};

/// Events that wait, by lane.
///
/// A lane is *ready* (in `ready`, once), or *held*: its events run, or wait for a retry. What comes
/// in for a held lane waits until the lane is released.
#[derive(Debug)]
pub(crate) struct Schedule<T> {
    lanes: HashMap<Lane, Waiting<T>>,
    ready: VecDeque<Lane>,
}

#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<T>,
    is_held: bool,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
            ready: VecDeque::new(),
        }
    }
}

impl<T> Schedule<T> {
    /// Adds an event behind those of its lane.
    pub fn push(&mut self, lane: Lane, item: T) {
        let waiting = self.lanes.entry(lane).or_insert_with(|| Waiting {
            items: VecDeque::new(),
            is_held: false,
        });
        if !waiting.is_held && waiting.items.is_empty() {
            self.ready.push_back(lane);
        }
        waiting.items.push_back(item);
    }

    /// Takes at most `max` events that may run together, each lane's in order, and holds their
    /// lanes.
    pub fn take(&mut self, max: usize) -> Vec<T> {
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(lane) = self.ready.pop_front() else {
                break;
            };
            let Some(waiting) = self.lanes.get_mut(&lane) else {
                continue;
            };
            waiting.is_held = true;
            let count = waiting.items.len().min(max - taken.len());
            taken.extend(waiting.items.drain(..count));
        }
        taken
    }

    /// Puts events of a held lane back before all others of it, the first one first.
    pub fn give_back(&mut self, lane: Lane, items: impl DoubleEndedIterator<Item = T>) {
        if let Some(waiting) = self.lanes.get_mut(&lane) {
            for item in items.rev() {
                waiting.items.push_front(item);
            }
        }
    }

    /// What a lane was held for is over.
    pub fn release(&mut self, lane: Lane) {
        let Some(waiting) = self.lanes.get_mut(&lane) else {
            return;
        };
        if waiting.items.is_empty() {
            self.lanes.remove(&lane);
        } else if waiting.is_held {
            waiting.is_held = false;
            self.ready.push_back(lane);
        }
    }

    /// Forgets everything of a partition.
    pub fn forget(&mut self, slot: Slot) {
        self.lanes.retain(|lane, _| lane.slot != slot);
        self.ready.retain(|lane| lane.slot != slot);
    }

    /// Whether nothing may run now.
    pub fn is_idle(&self) -> bool {
        self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lane(slot: u64, key: &[u8]) -> Lane {
        Lane::of_key(Slot(slot), Some(key), 0)
    }

    fn schedule(items: &[(&[u8], u32)]) -> Schedule<u32> {
        let mut schedule = Schedule::default();
        for (key, item) in items {
            schedule.push(lane(0, key), *item);
        }
        schedule
    }

    #[test]
    fn events_of_one_key_run_together_or_one_after_the_other() {
        let mut schedule = schedule(&[(b"a", 1), (b"a", 2), (b"b", 3), (b"a", 4)]);
        assert_eq!(schedule.take(2), [1, 2]);
        assert_eq!(schedule.take(9), [3], "4 waits for 1 and 2");
        schedule.push(lane(0, b"a"), 5);
        assert!(schedule.is_idle());
        schedule.release(lane(0, b"a"));
        assert_eq!(schedule.take(9), [4, 5]);
    }

    #[test]
    fn what_is_given_back_comes_first() {
        let mut schedule = schedule(&[(b"a", 1), (b"a", 2), (b"a", 3)]);
        assert_eq!(schedule.take(2), [1, 2]);
        schedule.give_back(lane(0, b"a"), [1, 2].into_iter());
        assert!(schedule.is_idle(), "held until the retry is due");
        schedule.release(lane(0, b"a"));
        assert_eq!(schedule.take(9), [1, 2, 3]);
    }

    #[test]
    fn a_revoked_partition_is_forgotten() {
        let mut schedule = schedule(&[(b"a", 1), (b"b", 2)]);
        schedule.push(lane(1, b"a"), 3);
        assert_eq!(schedule.take(1), [1]);
        schedule.forget(Slot(0));
        schedule.give_back(lane(0, b"a"), [1].into_iter());
        schedule.release(lane(0, b"a"));
        assert_eq!(schedule.take(9), [3]);
        schedule.release(lane(1, b"a"));
        assert!(schedule.lanes.is_empty(), "no lane is left behind");
    }

    proptest! {
        /// Whatever is taken, given back and released: each key's events end in order, once each.
        #[test]
        fn order_and_completeness(keys in proptest::collection::vec(0_u8..5, 1..60), choices in proptest::collection::vec((1_usize..6, 0_usize..4), 400)) {
            let mut schedule = Schedule::default();
            for (item, key) in keys.iter().enumerate() {
                schedule.push(lane(0, &[*key]), (*key, item));
            }
            let mut done: Vec<(u8, usize)> = Vec::new();
            let mut running: Vec<Vec<(u8, usize)>> = Vec::new();
            for (max, keep) in choices {
                let taken = schedule.take(max);
                if !taken.is_empty() {
                    running.push(taken);
                }
                if running.len() < 3 && !schedule.is_idle() {
                    continue;
                }
                let Some(mut batch) = running.pop() else { continue };
                // Of each lane in the batch, at most `keep` are done and the rest fails.
                while let Some((key, _)) = batch.first().copied() {
                    let of_lane: Vec<_> = batch.iter().copied().filter(|(k, _)| *k == key).collect();
                    batch.retain(|(k, _)| *k != key);
                    let (ok, failed) = of_lane.split_at(keep.min(of_lane.len()));
                    done.extend(ok);
                    schedule.give_back(lane(0, &[key]), failed.iter().copied());
                    schedule.release(lane(0, &[key]));
                }
            }
            loop {
                for batch in running.drain(..) {
                    for (key, item) in batch {
                        done.push((key, item));
                        schedule.release(lane(0, &[key]));
                    }
                }
                let rest = schedule.take(100);
                if rest.is_empty() {
                    break;
                }
                running.push(rest);
            }
            prop_assert_eq!(done.len(), keys.len());
            for key in 0..5 {
                let items: Vec<_> = done.iter().filter(|(k, _)| *k == key).map(|(_, item)| *item).collect();
                prop_assert!(items.is_sorted(), "key {}: {:?}", key, items);
            }
        }
    }
}
