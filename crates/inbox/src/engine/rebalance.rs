//! Partitions come, go, and are read anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::{Engine, Place};
use crate::claim;
use crate::engine::partition::Partition;
use crate::error::Error;
use crate::failure::Failure;
use crate::kafka::{self, Rebalance};
use crate::metrics::now_ms;
use crate::order::{Progress, Slot};
use crate::work::Once;

const SEEK_WITHIN: Duration = Duration::from_secs(10);
const STORED_WITHIN: Duration = Duration::from_secs(10);

impl Engine {
    /// Answers what can be answered now, in order. The rest waits; the group does, too, up to
    /// `max.poll.interval.ms`.
    pub(super) async fn rebalance(&mut self) {
        self.rebalances.extend(self.consumer.context().rebalances());
        while !self.rebalances.is_empty() {
            let rebalance = self.rebalances.remove(0);
            let is_answered = match &rebalance {
                Rebalance::Assigned(partitions) => self.assigned(partitions).await,
                Rebalance::Revoked(partitions) => self.revoked(partitions).await,
            };
            if !is_answered {
                self.rebalances.insert(0, rebalance);
                return;
            }
        }
    }

    async fn assigned(&mut self, partitions: &TopicPartitionList) -> bool {
        // Only where offsets are in the database must it be there.
        if self.settings.once == Once::Offsets && self.paused_until.is_some() {
            return false;
        }
        let Some(stored) = self.stored().await else {
            return false;
        };
        let places = places(partitions);
        let mut list = TopicPartitionList::new();
        for place in &places {
            let offset = match self.settings.once {
                // The group's own.
                Once::Inbox => Offset::Invalid,
                Once::Offsets => stored
                    .get(place)
                    .map_or(Offset::Beginning, |next| Offset::Offset(*next)),
            };
            if let Err(error) = list.add_partition_offset(&place.0, place.1, offset) {
                tracing::warn!(%error, topic = %place.0, "a partition is read from its committed offset");
            }
        }
        // First, so that each partition's end comes by its own queue.
        for place in places {
            let next = stored.get(&place).copied();
            self.add(place, next);
        }
        kafka::take_over(&self.consumer, &list);
        true
    }

    fn add(&mut self, place: Place, next: Option<i64>) {
        let mut queue = self.consumer.split_partition_queue(&place.0, place.1);
        if let Some(queue) = &mut queue {
            let wake = Arc::clone(&self.consumer.context().wake);
            queue.set_nonempty_callback(move || wake.notify_one());
        }
        let (topic, partition) = (&place.0, place.1);
        tracing::info!(consumer = self.worker.consumer, %topic, partition, "partition assigned");
        let slot = self.begin(&place, next);
        let partition = Partition {
            slot,
            topic: Arc::clone(&place.0),
            queue,
            committed: None,
            is_shut: false,
        };
        self.partitions.insert(place, partition);
    }

    /// A partition is read from `next` on, if that is known: nothing of it is settled yet.
    fn begin(&mut self, place: &Place, next: Option<i64>) -> Slot {
        let progress = Progress::new(now_ms(), next);
        self.lag.with(|all| all.insert(place.clone(), progress));
        self.next_slot += 1;
        Slot(self.next_slot)
    }

    /// What runs of the partitions ends, or is rolled back after the drain timeout; then their offsets
    /// are committed, and only then others may have them.
    async fn revoked(&mut self, partitions: &TopicPartitionList) -> bool {
        let places: HashSet<Place> = places(partitions).into_iter().collect();
        let slots = self.shut(&places);
        let is_lost = self.consumer.assignment_lost();
        let since = *self.draining_since.get_or_insert_with(Instant::now);
        let running: Vec<_> = self
            .in_flight
            .values()
            .filter(|run| run.is_of(&slots))
            .collect();
        if !running.is_empty() {
            if is_lost || since.elapsed() >= self.settings.drain_timeout {
                running.iter().for_each(|run| run.abort());
            }
            return false;
        }
        if !is_lost {
            self.commit_now(|place| places.contains(place)).await;
        }
        for place in &places {
            self.partitions.remove(place);
            self.lag.with(|all| all.remove(place));
            let (topic, partition) = (&place.0, place.1);
            tracing::info!(consumer = self.worker.consumer, %topic, partition, "partition revoked");
        }
        kafka::give_up(&self.consumer, partitions);
        self.draining_since = None;
        true
    }

    /// Takes nothing in any more, and forgets what has not begun.
    fn shut(&mut self, places: &HashSet<Place>) -> HashSet<Slot> {
        let mut slots = HashSet::new();
        for place in places {
            if let Some(partition) = self.partitions.get_mut(place) {
                partition.is_shut = true;
                self.schedule.forget(partition.slot);
                slots.insert(partition.slot);
            }
        }
        self.rewinds.retain(|place| !places.contains(place));
        slots
    }

    /// Reads partitions again from where they are handled, each as a new slot.
    pub(super) async fn rewind(&mut self) {
        if self.rewinds.is_empty() || self.paused_until.is_some() {
            return;
        }
        let Some(stored) = self.stored().await else {
            return;
        };
        for place in std::mem::take(&mut self.rewinds) {
            let next = match self.settings.once {
                Once::Inbox => self
                    .lag
                    .progress(&place, |progress| progress.committable())
                    .flatten(),
                Once::Offsets => stored.get(&place).copied(),
            };
            let offset = next.map_or(Offset::Beginning, Offset::Offset);
            if self.seek(&place, offset).await {
                let slot = self.begin(&place, next);
                if let Some(partition) = self.partitions.get_mut(&place) {
                    partition.slot = slot;
                    partition.is_shut = false;
                }
            } else {
                self.rewinds.push(place);
            }
        }
    }

    async fn seek(&self, place: &Place, offset: Offset) -> bool {
        let (topic, partition) = place.clone();
        let consumer = Arc::clone(&self.consumer.0);
        let seek = move || consumer.seek(&topic, partition, offset, SEEK_WITHIN);
        match tokio::task::spawn_blocking(seek).await {
            Ok(Err(error)) => {
                tracing::warn!(%error, topic = %place.0, partition, "can't read a partition anew yet");
                false
            }
            sought => sought.is_ok(),
        }
    }

    /// A partition starts over: its topic was made again, or the group's offsets were reset. What was
    /// read before has nothing to do with what comes.
    pub(super) fn starts_over(&mut self, place: &Place, next: i64, offset: i64) {
        let (topic, partition) = (&place.0, place.1);
        if self.settings.once == Once::Offsets {
            self.stop.get_or_insert(Error::OffsetsOfAnotherTopic {
                topic: topic.to_string(),
                partition,
                stored: next,
                found: offset,
            });
            return;
        }
        tracing::warn!(
            consumer = self.worker.consumer, %topic, partition, offset, expected = next,
            "partition starts over: the topic was made again, or offsets were reset"
        );
        let slot = self.begin(place, Some(offset));
        if let Some(partition) = self.partitions.get_mut(place) {
            self.schedule.forget(partition.slot);
            partition.slot = slot;
            partition.committed = None;
        }
    }

    /// The offsets in the database, where they are kept there; `None` while it is away.
    async fn stored(&mut self) -> Option<HashMap<Place, i64>> {
        if self.settings.once == Once::Inbox {
            return Some(HashMap::new());
        }
        let found = async {
            let client = self.worker.pool.get().await.map_err(Failure::unavailable)?;
            Ok::<_, Failure>(claim::stored(&client, &self.worker.consumer).await?)
        };
        let found = tokio::time::timeout(STORED_WITHIN, found).await;
        let silent = |_| Err(Failure::unavailable("the database does not answer"));
        match found.unwrap_or_else(silent) {
            Ok(found) => {
                let found = found.into_iter();
                Some(
                    found
                        .map(|(topic, partition, next)| ((topic.into(), partition), next))
                        .collect(),
                )
            }
            Err(failure) => {
                self.away(&failure);
                None
            }
        }
    }
}

fn places(partitions: &TopicPartitionList) -> Vec<Place> {
    let elements = partitions.elements();
    elements
        .iter()
        .map(|element| (element.topic().into(), element.partition()))
        .collect()
}
