//! Offsets on their way to the group.
//!
//! Each commit is waited for, in a thread of its own, and only one is on its way: one that the client repeats
//! could overwrite a later one. librdkafka could do it asynchronously, but would tell nobody of a failure: that
//! needs a callback which its Rust wrapper does not set. And a commit is refused now and then while others join
//! the group, also one of partitions that stay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot::error::TryRecvError;

use super::{Engine, Place};
use crate::kafka::{self, Answer};

/// Nobody waits longer for an answer: the offsets are committed again, by whoever comes.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// For so long a last commit that was refused is repeated: a rebalance that was at its end is over by then.
const REPEATED_FOR: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

/// A commit on its way; the answer has what was committed.
pub(super) type Commit = Answer<KafkaResult<TopicPartitionList>>;

impl Engine {
    /// Commits from time to time what has got on, once the last commit is answered.
    pub(super) fn commit_some(&mut self) {
        let now = Instant::now();
        if now < self.commit_at {
            return;
        }
        self.commit_at = now + self.settings.commit_interval;
        if let Some(commit) = &mut self.commit {
            match commit.try_recv() {
                Ok(answer) => {
                    self.answered(&answer);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Closed) => {}
            }
        }
        self.commit = self.send(|_| true);
    }

    /// Commits the offsets of these partitions, and waits until that is answered.
    pub(super) async fn commit_now(&mut self, wanted: impl Fn(&Place) -> bool) {
        let began = tokio::time::Instant::now();
        while let Some(mut commit) = self.commit.take().or_else(|| self.send(&wanted)) {
            match tokio::time::timeout_at(began + ANSWERED_WITHIN, &mut commit).await {
                Ok(Ok(answer)) if self.answered(&answer) => {}
                Ok(_) if began.elapsed() < REPEATED_FOR => tokio::time::sleep(PAUSE).await,
                Ok(_) => return,
                Err(_) => {
                    tracing::warn!(
                        consumer = self.worker.consumer,
                        "offsets were not committed, for the group's coordinator does not answer: \
                         what was handled behind them comes again"
                    );
                    self.commit = Some(commit);
                    return;
                }
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
        Some(kafka::apart(commit))
    }

    /// Whether the offsets are committed.
    fn answered(&mut self, answer: &KafkaResult<TopicPartitionList>) -> bool {
        let committed = match answer {
            Ok(committed) => committed,
            Err(error) => {
                tracing::warn!(
                    consumer = self.worker.consumer, %error,
                    "offsets were not committed; they are committed again"
                );
                return false;
            }
        };
        for element in committed.elements() {
            let place: Place = (element.topic().into(), element.partition());
            if let Some(partition) = self.partitions.get_mut(&place) {
                partition.committed = element.offset().to_raw();
            }
        }
        true
    }
}
