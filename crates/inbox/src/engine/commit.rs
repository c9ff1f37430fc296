//! Offsets on their way to the group.
//!
//! Each commit is waited for, in a thread of its own, and only one is on its way. librdkafka could do it
//! asynchronously, but would tell nobody of a failure: that needs a callback which its Rust wrapper does not
//! set. And a commit is refused now and then while others join the group, also one of partitions that stay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::{JoinError, JoinHandle};

use super::{Engine, Place};

/// Nobody waits longer for an answer: the offsets are committed again, by whoever comes.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// A commit on its way; the answer has what was committed.
pub(super) type Commit = JoinHandle<KafkaResult<TopicPartitionList>>;

impl Engine {
    /// Commits from time to time what has got on.
    pub(super) async fn commit_some(&mut self) {
        let now = Instant::now();
        if now < self.commit_at {
            return;
        }
        self.commit_at = now + self.settings.commit_interval;
        if let Some(commit) = self.commit.take_if(|commit| commit.is_finished()) {
            let answer = commit.await;
            self.answered(answer);
        }
        if self.commit.is_none() {
            self.commit = self.send(|_| true);
        }
    }

    /// Commits the offsets of these partitions, and waits for the answer.
    pub(super) async fn commit_now(&mut self, wanted: impl Fn(&Place) -> bool) {
        let until = tokio::time::Instant::now() + ANSWERED_WITHIN;
        // One that is on its way holds the client, too.
        for commit in self.commit.take().into_iter().chain(self.send(wanted)) {
            match tokio::time::timeout_at(until, commit).await {
                Ok(answer) => self.answered(answer),
                Err(_) => tracing::warn!("offsets were not committed: no answer"),
            }
        }
    }

    /// Sends the offsets of the partitions that have got on since the last answer, if there are any.
    fn send(&self, wanted: impl Fn(&Place) -> bool) -> Option<Commit> {
        let mut offsets = TopicPartitionList::new();
        for (place, partition) in self.partitions.iter().filter(|(place, _)| wanted(place)) {
            let next = self.lag.progress(place, |progress| progress.committable());
            if let Some(next) = next.flatten()
                && partition.committed != Some(next)
            {
                // Only an offset that is none is refused.
                let added = offsets.add_partition_offset(&place.0, place.1, Offset::Offset(next));
                debug_assert!(added.is_ok(), "{place:?}: {next}");
            }
        }
        if offsets.count() == 0 {
            return None;
        }
        let consumer = Arc::clone(&self.consumer.0);
        let commit = move || {
            let committed = consumer.commit(&offsets, CommitMode::Sync);
            committed.map(|()| offsets)
        };
        Some(tokio::task::spawn_blocking(commit))
    }

    fn answered(&mut self, answer: Result<KafkaResult<TopicPartitionList>, JoinError>) {
        let committed = match answer {
            Ok(Ok(committed)) => committed,
            Ok(Err(error)) => {
                tracing::warn!(%error, "offsets were not committed; the next commit includes them");
                return;
            }
            // Only at the runtime's end.
            Err(_) => return,
        };
        for element in committed.elements() {
            let place: Place = (element.topic().into(), element.partition());
            if let Some(partition) = self.partitions.get_mut(&place) {
                partition.committed = element.offset().to_raw();
            }
        }
    }
}
