//! Which fault comes next.

use super::Fault;

/// Deals every kind once, in a random order, before any comes again.
#[derive(Debug)]
pub(super) struct Deck {
    kinds: Vec<Fault>,
    hand: Vec<Fault>,
}

impl Deck {
    pub fn new(kinds: Vec<Fault>) -> Self {
        let hand = Vec::new();
        Self { kinds, hand }
    }

    /// `None` only without any kinds.
    pub fn deal(&mut self, random: &mut fastrand::Rng) -> Option<Fault> {
        if self.hand.is_empty() {
            self.hand.clone_from(&self.kinds);
            random.shuffle(&mut self.hand);
        }
        self.hand.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_before_any_comes_again() {
        let kinds = Fault::all(3);
        let mut deck = Deck::new(kinds.clone());
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..3 {
            let dealt: Vec<_> = kinds.iter().map(|_| deck.deal(&mut random)).collect();
            assert!(kinds.iter().all(|kind| dealt.contains(&Some(*kind))));
        }
    }
}
