//! Batches that run, and what becomes of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::task::{AbortHandle, Id, JoinError};

use super::{Engine, Place};
use crate::failure::Failure;
use crate::order::{Lane, Slot};
use crate::work::{Item, Outcome, Report};

/// A batch that runs.
pub(super) struct InFlight {
    lanes: Vec<Lane>,
    task: Option<AbortHandle>,
}

impl InFlight {
    pub fn of(items: &[Item]) -> Self {
        // Events of one lane stand together.
        let mut lanes: Vec<Lane> = items.iter().map(|item| item.lane).collect();
        lanes.dedup();
        Self { lanes, task: None }
    }

    pub fn abortable(mut self, task: AbortHandle) -> Self {
        self.task = Some(task);
        self
    }

    pub fn is_of(&self, slots: &HashSet<Slot>) -> bool {
        self.lanes.iter().any(|lane| slots.contains(&lane.slot))
    }

    /// Its transaction is rolled back.
    pub fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Engine {
    /// A batch has ended.
    pub(super) fn landed(&mut self, done: Result<(Id, Report), JoinError>) {
        let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(flight) = self.in_flight.remove(&id) else {
            return;
        };
        match done {
            Ok((_, report)) => self.settle(&flight, report),
            // Only batches of partitions that go away are aborted, and a batch may have events of others.
            Err(error) => {
                if error.is_panic() {
                    self.away(&Failure::unavailable(format!(
                        "a batch has panicked: {error}"
                    )));
                }
                self.rewind_all(&flight);
            }
        }
    }

    fn settle(&mut self, flight: &InFlight, report: Report) {
        let mut waits: HashMap<Lane, Instant> = HashMap::new();
        let mut back: HashMap<Lane, Vec<Item>> = HashMap::new();
        let now = Instant::now();
        for (item, outcome) in report.items {
            match outcome {
                Outcome::Settled(_) => self.settled(&item),
                Outcome::Again(wait) => {
                    waits.insert(item.lane, now + wait);
                    back.entry(item.lane).or_default().push(item);
                }
                Outcome::Back => back.entry(item.lane).or_default().push(item),
            }
        }
        for (lane, items) in back {
            self.schedule.give_back(lane, items.into_iter());
        }
        for lane in &flight.lanes {
            match waits.get(lane) {
                Some(due) => {
                    self.next_due += 1;
                    self.due.insert((*due, self.next_due), *lane);
                }
                None => self.schedule.release(*lane),
            }
        }
        match report.unavailable {
            Some(failure) => self.away(&failure),
            None => self.outage.reset(),
        }
        if report.is_moved {
            self.rewind_all(flight);
        }
        if let Some(error) = report.stop {
            self.stop.get_or_insert(error);
        }
    }

    /// Nothing starts for a while.
    pub(super) fn away(&mut self, failure: &Failure) {
        let wait = self.outage.next_wait(fastrand::f64());
        self.paused_until = Some(Instant::now() + wait);
        tracing::warn!(
            error = %failure, ?wait,
            "nothing is handled until the database and the dead-letter topic can be used again"
        );
    }

    fn settled(&mut self, item: &Item) {
        let place: Place = (Arc::clone(&item.source.topic), item.source.partition);
        let slot = self.partitions.get(&place).map(|partition| partition.slot);
        // Of an earlier assignment: the partition starts anew.
        if slot == Some(item.lane.slot) {
            self.lag
                .progress(&place, |progress| progress.settled(item.source.offset));
        }
    }

    /// Reads the partitions of a batch again, from where they are handled.
    fn rewind_all(&mut self, flight: &InFlight) {
        let slots: HashSet<Slot> = flight.lanes.iter().map(|lane| lane.slot).collect();
        for (place, partition) in &mut self.partitions {
            if !partition.is_shut && slots.contains(&partition.slot) {
                partition.is_shut = true;
                self.schedule.forget(partition.slot);
                self.rewinds.push(place.clone());
            }
        }
    }
}
