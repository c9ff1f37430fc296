//! Requests of operators: once the checkpoint is past one, it has been carried out.

use pgoutput::Position;

use super::Expectation;
use super::expectation::Expected;
use crate::Violation;
use crate::wal::{Demand, Operation};

/// A request, and where it stands in the stream.
#[derive(Debug)]
pub struct Demanded {
    /// Where.
    pub position: Position,
    /// What.
    pub demand: Demand,
}

impl Demanded {
    /// Whether it is about the event.
    pub fn names(&self, event: &Expected) -> bool {
        match &self.demand.operation {
            Operation::Replay(None) | Operation::Drop(None) => true,
            Operation::Replay(Some(id)) | Operation::Drop(Some(id)) => *id == event.id(),
            Operation::Release(key) => *key == event.key(),
            Operation::Nonsense => false,
        }
    }
}

impl Expectation {
    /// What comes before requests that a checkpoint `covers`, and was not dealt with.
    ///
    /// Where keys are `parked`, only their release publishes dead letters: a replay would let them
    /// overtake others.
    pub fn check_served(
        &mut self,
        parked: bool,
        covers: impl Fn(Position) -> bool,
    ) -> Result<(), Violation> {
        while let Some(demanded) = self.demands.get(self.first_unserved) {
            if !covers(demanded.position) {
                return Ok(());
            }
            self.first_unserved += 1;
            if parked && matches!(demanded.demand.operation, Operation::Replay(_)) {
                continue;
            }
            let before = self.events.iter();
            let before = before.take_while(|event| event.position < demanded.position);
            let request = demanded.demand.id();
            let drops = matches!(demanded.demand.operation, Operation::Drop(_));
            // What this or a later one has put there again is dealt with.
            let later: Vec<_> = self.demands[self.first_unserved - 1..]
                .iter()
                .map(|later| later.demand.id())
                .collect();
            // At least once, an older relay may bury an event again while its dead letter is served.
            let is_exact = self.is_exact;
            let is_repeated = |event: &Expected| {
                !is_exact && event.burials.iter().any(|b| b.resolution.is_some())
            };
            let is_left = |event: &Expected| {
                let mut burials = event.burials.iter().filter(|_| !is_repeated(event));
                burials.any(|b| {
                    let is_possible = drops || b.is_publishable;
                    b.resolution.is_none() && !later.contains(&b.request) && is_possible
                })
            };
            let mut named = before.filter(|event| demanded.names(event));
            if let Some(event) = named.find(|event| is_left(event)) {
                let position = event.position;
                return Err(Violation::Unserved { position, request });
            }
        }
        Ok(())
    }

    /// Behind an event that is dead, none of its key is published.
    pub fn check_parked(&self, ranks: &[usize]) -> Result<(), Violation> {
        for rank in ranks {
            let Some(late) = self.events.get(*rank) else {
                continue;
            };
            let key = late.key();
            let earlier = self.events[..*rank].iter().filter(|e| e.is_open());
            if let Some(early) = earlier.into_iter().find(|early| early.key() == key) {
                return Err(Violation::Overtaken {
                    parked: early.position,
                    by: late.position,
                });
            }
        }
        Ok(())
    }
}
