//! How far one group is, over all rounds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Instant;

use producer::{Found, TopicPartition};

use super::partition::{Partition, Span};
use crate::config::{ConsumerSpec, OffsetReset};
use crate::failure::Failure;
use crate::telemetry::GroupLag;

/// What the brokers say of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The first offset that is kept.
    pub first: i64,
    /// Behind the last record whose transaction has ended.
    pub stable: i64,
    /// Behind the last record.
    pub written: i64,
}

#[derive(Debug)]
pub(super) struct Group {
    pub spec: ConsumerSpec,
    partitions: BTreeMap<TopicPartition, Partition>,
    /// Those whose next event must be looked for, from an offset on.
    due: BTreeMap<TopicPartition, i64>,
    /// The last one that was looked at.
    cursor: Option<TopicPartition>,
    failure: Option<(Failure, Instant)>,
}

impl Group {
    pub fn new(spec: ConsumerSpec) -> Self {
        Self {
            spec,
            partitions: BTreeMap::new(),
            due: BTreeMap::new(),
            cursor: None,
            failure: None,
        }
    }

    /// Those of all partitions that the group reads.
    pub fn reads<'a>(
        &self,
        committed: &HashMap<TopicPartition, i64>,
        all: impl Iterator<Item = &'a TopicPartition>,
    ) -> Vec<TopicPartition> {
        let known: BTreeSet<&String> = committed.keys().map(|place| &place.topic).collect();
        let is_read = |place: &&TopicPartition| match self.spec.topics.as_slice() {
            [] => known.contains(&place.topic),
            patterns => patterns.iter().any(|p| p.matches(&place.topic)),
        };
        all.filter(is_read).cloned().collect()
    }

    /// Takes in how far the group is. Partitions of which nothing was said stay as they are, those that
    /// it does not read are forgotten.
    ///
    /// # Errors
    /// The committed offset of a partition lies behind its end.
    pub fn update(
        &mut self,
        reads: &[TopicPartition],
        committed: &HashMap<TopicPartition, i64>,
        extents: &HashMap<TopicPartition, Extent>,
        now: Instant,
    ) -> Result<(), Failure> {
        let reads: BTreeSet<&TopicPartition> = reads.iter().collect();
        self.partitions.retain(|place, _| reads.contains(place));
        self.due.clear();
        let mut beyond = None;
        for place in reads {
            let partition = self
                .partitions
                .entry(place.clone())
                .or_insert_with(|| Partition::new(now));
            let Some(extent) = extents.get(place) else {
                continue;
            };
            let committed = committed.get(place).copied();
            if let Some(offset) = committed.filter(|offset| *offset > extent.written) {
                beyond.get_or_insert_with(|| is_beyond(place, offset, extent.written));
                continue;
            }
            let span = span(committed, self.spec.offset_reset, *extent);
            if let Some(from) = partition.update(span, now) {
                self.due.insert(place.clone(), from);
            }
        }
        beyond.map_or(Ok(()), Err)
    }

    /// So many partitions at most that are to be looked at, those first that come after the last one that
    /// was: so each has its turn.
    pub fn take_due(&mut self, max: usize) -> Vec<(TopicPartition, i64)> {
        let behind = match &self.cursor {
            Some(cursor) => self.due.range((Excluded(cursor), Unbounded)),
            None => self.due.range::<TopicPartition, _>(..),
        };
        let in_turn = behind.chain(&self.due).take(max.min(self.due.len()));
        let taken: Vec<_> = in_turn
            .map(|(place, from)| (place.clone(), *from))
            .collect();
        for (place, _) in &taken {
            self.due.remove(place);
        }
        if let Some((last, _)) = taken.last() {
            self.cursor = Some(last.clone());
        }
        taken
    }

    /// Takes in what was found.
    pub fn looked(&mut self, found: &HashMap<TopicPartition, Found>, now: Instant, now_ms: i64) {
        for (place, found) in found {
            if let Some(partition) = self.partitions.get_mut(place) {
                partition.looked(found, now, now_ms);
            }
        }
    }

    /// A round is over. Told once for each cause.
    pub fn settle(&mut self, outcome: Result<(), Failure>, pipeline: &str) {
        let group = self.spec.group.as_str();
        let known = self.failure.as_ref().map(|(failure, _)| failure.code);
        match outcome {
            Ok(()) if known.is_some() => {
                tracing::info!(
                    pipeline,
                    group,
                    "the lag of a consumer group is known again"
                );
                self.failure = None;
            }
            Ok(()) => {}
            Err(failure) if known == Some(failure.code) => {}
            Err(failure) => {
                let (code, error) = (failure.code.name, failure.message.as_str());
                if failure.is_transient() {
                    tracing::warn!(
                        pipeline,
                        group,
                        code,
                        error,
                        "the lag of a consumer group is not known for now"
                    );
                } else {
                    let remedy = failure.code.remedy;
                    tracing::error!(
                        pipeline,
                        group,
                        code,
                        error,
                        remedy,
                        "the lag of a consumer group is not known"
                    );
                }
                self.failure = Some((failure, Instant::now()));
            }
        }
    }

    /// What there is to show.
    pub fn lag(&self) -> GroupLag {
        let mut lag = GroupLag::new(&self.spec);
        for (place, partition) in &self.partitions {
            partition.add_to(lag.topics.entry(place.topic.clone()).or_default());
        }
        lag.confirmed = self.partitions.values().map(Partition::confirmed).min();
        lag.failure.clone_from(&self.failure);
        lag
    }
}

fn span(committed: Option<i64>, reset: OffsetReset, extent: Extent) -> Span {
    let position = match (committed, reset) {
        // Those before the first one were removed by the topic's retention.
        (Some(offset), _) => offset.max(extent.first),
        (None, OffsetReset::Earliest) => extent.first,
        (None, OffsetReset::Latest) => extent.stable,
    };
    Span {
        position,
        end: extent.stable,
    }
}

fn is_beyond(place: &TopicPartition, offset: i64, end: i64) -> Failure {
    let TopicPartition { topic, partition } = place;
    let message = format!(
        "the group has committed offset {offset} of {topic}/{partition}, which ends at {end}"
    );
    Failure::new("consumer-offsets", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Extent = Extent {
        first: 3,
        stable: 10,
        written: 12,
    };

    fn place(topic: &str, partition: i32) -> TopicPartition {
        let topic = topic.to_owned();
        TopicPartition { topic, partition }
    }

    fn group(topics: &[&str], offset_reset: OffsetReset) -> Group {
        Group::new(ConsumerSpec {
            group: "g".into(),
            service: "s".into(),
            topics: topics
                .iter()
                .filter_map(|topic| topic.parse().ok())
                .collect(),
            offset_reset,
        })
    }

    fn names(places: &[TopicPartition]) -> Vec<String> {
        let name = |place: &TopicPartition| format!("{}/{}", place.topic, place.partition);
        places.iter().map(name).collect()
    }

    #[test]
    fn it_reads_every_partition_of_its_topics() {
        let all = [place("a", 0), place("a", 1), place("b", 0), place("c", 0)];
        let committed: HashMap<_, _> = [(place("a", 1), 5), (place("gone", 0), 5)].into();
        let reads = |patterns: &[&str]| {
            names(&group(patterns, OffsetReset::Earliest).reads(&committed, all.iter()))
        };
        assert_eq!(reads(&[]), ["a/0", "a/1"]);
        assert_eq!(reads(&["b", "c*"]), ["b/0", "c/0"]);
        assert!(reads(&["d"]).is_empty());
    }

    #[test]
    fn without_a_committed_offset_it_goes_on_where_the_consumer_would() {
        for (committed, reset, expected) in [
            (Some(5), OffsetReset::Earliest, 5),
            (Some(1), OffsetReset::Latest, 3),
            (None, OffsetReset::Earliest, 3),
            (None, OffsetReset::Latest, 10),
        ] {
            let span = span(committed, reset, FULL);
            assert_eq!((span.position, span.end), (expected, 10));
        }
    }

    #[test]
    fn an_offset_in_an_open_transaction_is_the_end_and_one_behind_all_records_is_told() {
        let now = Instant::now();
        let places = [place("a", 0), place("a", 1)];
        let extents: HashMap<_, _> = places.clone().map(|place| (place, FULL)).into();
        let mut group = group(&[], OffsetReset::Earliest);
        let committed = [(places[0].clone(), 12), (places[1].clone(), 13)].into();
        let failure = group.update(&places, &committed, &extents, now).err();
        assert_eq!(failure.map(|f| f.code.name), Some("consumer-offsets"));
        assert!(group.take_due(9).is_empty());
        let lag = group.lag();
        let later = now + std::time::Duration::from_secs(2);
        let age = lag.topics["a"].age(later, 0, std::time::Duration::from_secs(6));
        assert_eq!(age.as_secs(), 2, "nothing is known of partition 1");
    }

    #[test]
    fn each_partition_has_its_turn() {
        let now = Instant::now();
        let places: Vec<_> = (0..5).map(|partition| place("a", partition)).collect();
        let extents: HashMap<_, _> = places.iter().map(|place| (place.clone(), FULL)).collect();
        let mut group = group(&[], OffsetReset::Earliest);
        let mut turns = Vec::new();
        for _ in 0..3 {
            let updated = group.update(&places, &HashMap::new(), &extents, now);
            assert!(updated.is_ok());
            let taken = group.take_due(2).into_iter();
            let taken: Vec<_> = taken.map(|(place, _)| place.partition).collect();
            turns.push(taken);
        }
        assert_eq!(turns, [[0, 1], [2, 3], [4, 0]]);
        assert_eq!(group.take_due(100).len(), 3);
    }
}
