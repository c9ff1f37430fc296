//! The only source of chance: one seed, one run.

use std::ops::Range;

/// A seeded generator. Every decision of a run is drawn from it, in one order.
#[derive(Debug)]
pub struct Dice(fastrand::Rng);

impl Dice {
    /// The dice of a run.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.0.u64(0..n.max(1)) == 0
    }

    /// True `n` times in a thousand.
    pub fn per_mille(&mut self, n: u64) -> bool {
        self.0.u64(0..1000) < n
    }

    /// A number of the range, which must not be empty.
    pub fn number(&mut self, range: Range<u64>) -> u64 {
        self.0.u64(range)
    }

    /// A count or index of the range, which must not be empty.
    pub fn index(&mut self, range: Range<usize>) -> usize {
        self.0.usize(range)
    }

    /// One of the items.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        items.get(self.0.usize(0..items.len().max(1))).copied()
    }

    /// The index of one of the weights, as often as its share; of the last if all are zero.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut left = self.0.u64(0..weights.iter().sum::<u64>().max(1));
        for (index, weight) in weights.iter().enumerate() {
            if left < *weight {
                return index;
            }
            left -= weight;
        }
        weights.len().saturating_sub(1)
    }

    /// Any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        self.0.shuffle(items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same() {
        let throws = |seed| {
            let mut dice = Dice::new(seed);
            (0..50).map(|_| dice.number(0..1000)).collect::<Vec<_>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
    }

    #[test]
    fn what_weighs_nothing_is_not_chosen() {
        let mut dice = Dice::new(1);
        for _ in 0..100 {
            assert_eq!(dice.weighted(&[0, 3, 0]), 1);
        }
    }
}
