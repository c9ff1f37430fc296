//! One round of questions about all groups of a pipeline.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use producer::{ClientError, Edge, Found, GroupReader, TopicPartition};

use super::group::{Extent, Group};
use crate::failure::Failure;
use crate::sink::kafka;
use crate::telemetry::now_ms;

/// For one answer of the brokers.
const REQUEST: Duration = Duration::from_secs(5);
/// For the offsets of one group.
const ANSWER: Duration = Duration::from_secs(2);
/// For those of all groups: one whose coordinator is away must not make what is known of the others old.
const ANSWERS: Duration = Duration::from_secs(3);
/// For all looks of a round: a leader that is away must not hold up what is known of the others.
const LOOKS: Duration = Duration::from_secs(2);
/// Topics are made, and get partitions, rarely.
const PARTITIONS_KEPT: Duration = Duration::from_secs(10);

const GROUP_AUTHORIZATION_FAILED: i32 = 30;
const TOPIC_AUTHORIZATION_FAILED: i32 = 29;
const GROUP_ID_NOT_FOUND: i32 = 69;

/// What is asked, and what does not change from round to round.
pub(super) struct Inquiry {
    reader: GroupReader,
    /// All partitions, and whether each has a leader.
    partitions: HashMap<TopicPartition, bool>,
    /// When these were asked for.
    asked: Option<Instant>,
    /// Which group is looked at first.
    turn: usize,
    /// In which order groups are asked: last those that did not answer.
    order: Vec<usize>,
}

type Committed = HashMap<TopicPartition, i64>;
/// What is said of partitions, or why nothing is.
type Extents = HashMap<TopicPartition, Result<Extent, Failure>>;

impl Inquiry {
    pub fn new(reader: GroupReader, groups: usize) -> Self {
        Self {
            reader,
            partitions: HashMap::new(),
            asked: None,
            turn: 0,
            order: (0..groups).collect(),
        }
    }

    /// Asks how far the groups are, and takes a look at the next event of as many partitions as may be.
    /// Says what is wrong with each group.
    ///
    /// # Errors
    /// The brokers do not answer.
    pub fn round(
        &mut self,
        groups: &mut [Group],
        fetches_max: usize,
    ) -> Result<Vec<Result<(), Failure>>, Failure> {
        self.know_partitions()?;
        let committed = self.committed(groups);
        if let Some(failure) = nobody_answers(&committed) {
            return Err(failure);
        }
        let reads: Vec<_> = groups
            .iter()
            .zip(&committed)
            .map(|(group, committed)| match committed {
                Ok(committed) => group.reads(committed, self.partitions.keys()),
                Err(_) => Vec::new(),
            })
            .collect();
        let extents = self.extents(&reads, &committed);
        // A leader may have gone.
        let extents = extents.inspect_err(|_| self.asked = None)?;
        let now = Instant::now();
        let mut outcomes: Vec<_> = groups
            .iter_mut()
            .zip(committed.into_iter().zip(&reads))
            .map(|(group, (committed, reads))| take_in(group, committed?, reads, &extents, now))
            .collect();
        self.look(groups, &mut outcomes, fetches_max);
        Ok(outcomes)
    }

    fn know_partitions(&mut self) -> Result<(), Failure> {
        if self.asked.is_none_or(|at| at.elapsed() > PARTITIONS_KEPT) {
            let partitions = self.reader.partitions(REQUEST);
            self.partitions = partitions.map_err(|error| kafka::trouble(&error))?;
            self.asked = Some(Instant::now());
        }
        Ok(())
    }

    /// What each group has committed.
    fn committed(&mut self, groups: &[Group]) -> Vec<Result<Committed, Failure>> {
        let names: Vec<_> = groups.iter().map(|g| g.spec.group.as_str()).collect();
        let ask = |name: &str, patience| {
            let said = self.reader.committed(name, patience);
            said.map_err(|error| group_failure(name, &error))
        };
        ask_in(&mut self.order, &names, ANSWERS, ask)
    }

    fn extents(
        &self,
        reads: &[Vec<TopicPartition>],
        committed: &[Result<Committed, Failure>],
    ) -> Result<Extents, Failure> {
        let has_leader = |place: &&TopicPartition| self.partitions.get(*place) == Some(&true);
        let all: BTreeSet<_> = reads.iter().flatten().filter(has_leader).collect();
        let all: Vec<_> = all.into_iter().cloned().collect();
        let first = self.offsets(Edge::First, &all)?;
        let stable = self.offsets(Edge::Stable, &all)?;
        // A group that reads what is not committed may be within an open transaction.
        let is_beyond = |place: &&TopicPartition| {
            let offsets = committed.iter().flatten().filter_map(|all| all.get(*place));
            let stable = stable.get(*place).and_then(|said| said.as_ref().ok());
            offsets.max() > stable
        };
        let beyond: Vec<_> = all.iter().filter(is_beyond).cloned().collect();
        let written = self.offsets(Edge::Written, &beyond)?;
        let extent = |place: &TopicPartition| {
            let first = first.get(place)?.clone();
            let stable = stable.get(place)?.clone();
            let written = written
                .get(place)
                .cloned()
                .unwrap_or_else(|| stable.clone());
            let extent = first.and_then(|first| {
                let (stable, written) = (stable?, written?);
                Ok(Extent {
                    first,
                    stable,
                    written,
                })
            });
            let said = extent.map_err(|error| topic_failure(&place.topic, &error));
            Some((place.clone(), said))
        };
        Ok(all.iter().filter_map(extent).collect())
    }

    fn offsets(
        &self,
        edge: Edge,
        places: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, Result<i64, ClientError>>, Failure> {
        let said = self.reader.offsets(edge, places, REQUEST);
        said.map_err(|error| kafka::trouble(&error))
    }

    fn look(
        &mut self,
        groups: &mut [Group],
        outcomes: &mut [Result<(), Failure>],
        fetches_max: usize,
    ) {
        let deadline = Instant::now() + LOOKS;
        let mut left = fetches_max;
        let count = groups.len();
        self.turn = (self.turn + 1) % count.max(1);
        for step in 0..count {
            let at = (self.turn + step) % count;
            let patience = deadline.saturating_duration_since(Instant::now());
            if left == 0 || patience.is_zero() {
                return;
            }
            let (group, outcome) = (&mut groups[at], &mut outcomes[at]);
            let due = group.take_due(left);
            if due.is_empty() {
                continue;
            }
            left -= due.len();
            let found = self.reader.next_records(&due, patience);
            group.looked(&found, Instant::now(), now_ms());
            let refused = found.iter().find_map(|(place, found)| match found {
                Found::Refused(error) => Some(topic_failure(&place.topic, error)),
                Found::Record { .. } | Found::End { .. } => None,
            });
            if let (Some(refused), Ok(())) = (refused, &outcome) {
                *outcome = Err(refused);
            }
        }
    }
}

/// Asks groups in this order while there is time, and puts those that do not answer behind the others.
fn ask_in<T>(
    order: &mut [usize],
    names: &[&str],
    patience: Duration,
    ask: impl Fn(&str, Duration) -> Result<T, Failure>,
) -> Vec<Result<T, Failure>> {
    let deadline = Instant::now() + patience;
    let mut said: Vec<_> = names.iter().map(|name| Err(unasked(name))).collect();
    let mut silent = BTreeSet::new();
    for &at in &*order {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        said[at] = ask(names[at], left.min(ANSWER));
        if said[at].as_ref().is_err_and(Failure::is_transient) {
            silent.insert(at);
        }
    }
    order.sort_by_key(|at| silent.contains(at));
    said
}

fn unasked(group: &str) -> Failure {
    let message =
        format!("no time was left to ask for the offsets of group {group}: others did not answer");
    Failure::new("kafka-unreachable", message)
}

/// A group's coordinator may be away by itself; if all are, it is the brokers.
fn nobody_answers(committed: &[Result<Committed, Failure>]) -> Option<Failure> {
    let mut failures = committed.iter().map(|said| match said {
        Err(failure) if failure.is_transient() => Some(failure),
        _ => None,
    });
    let first = failures.next()??;
    failures
        .all(|failure| failure.is_some())
        .then(|| first.clone())
}

/// Takes in what was said of a group.
fn take_in(
    group: &mut Group,
    committed: Committed,
    reads: &[TopicPartition],
    extents: &Extents,
    now: Instant,
) -> Result<(), Failure> {
    let name = group.spec.group.clone();
    if reads.is_empty() && !group.spec.topics.is_empty() {
        let patterns: Vec<_> = group.spec.topics.iter().map(ToString::to_string).collect();
        let patterns = patterns.join(", ");
        let message =
            format!("no topic that may be seen fits the topics of group {name}: {patterns}");
        return Err(Failure::new("consumer-topic-missing", message));
    }
    // The offsets of a group that has been away for long expire: what was known of it still holds.
    if !reads.is_empty() {
        let said = |place: &TopicPartition| extents.get(place)?.as_ref().ok().copied();
        let extents = reads
            .iter()
            .filter_map(|place| Some((place.clone(), said(place)?)));
        group.update(reads, &committed, &extents.collect(), now)?;
    }
    if committed.is_empty() {
        return Err(unknown(&name));
    }
    let failed = reads.iter().find_map(|place| match extents.get(place) {
        Some(Err(failure)) => Some(failure.clone()),
        Some(Ok(_)) => None,
        None => Some(unanswered(place)),
    });
    failed.map_or(Ok(()), Err)
}

fn unknown(group: &str) -> Failure {
    let message = format!("group {group} has committed no offset");
    Failure::new("consumer-group-unknown", message)
}

fn unanswered(place: &TopicPartition) -> Failure {
    let TopicPartition { topic, partition } = place;
    let message = format!("the brokers do not say where {topic}/{partition} ends");
    Failure::new("kafka-unreachable", message)
}

fn group_failure(group: &str, error: &ClientError) -> Failure {
    match error.code {
        GROUP_AUTHORIZATION_FAILED => {
            let message = format!("group {group}: {} ({})", error.message, error.name);
            Failure::new("consumer-group-denied", message)
        }
        GROUP_ID_NOT_FOUND => unknown(group),
        _ => kafka::trouble(error),
    }
}

fn topic_failure(topic: &str, error: &ClientError) -> Failure {
    let said = format!("topic {topic}: {} ({})", error.message, error.name);
    match error.code {
        TOPIC_AUTHORIZATION_FAILED => Failure::new("consumer-topic-denied", said),
        // Its leader is elsewhere, or it has just been removed: the next round knows.
        _ => Failure::new("kafka-unreachable", said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_do_not_answer_come_last() {
        let mut order = [0, 1, 2, 3];
        let names = ["away", "away too", "well", "denied"];
        let ms = Duration::from_millis;
        let ask = |name: &str, patience: Duration| match name {
            "well" => Ok(()),
            "denied" => Err(Failure::new("consumer-group-denied", "not allowed")),
            _ => {
                std::thread::sleep(patience);
                Err(Failure::new("kafka-unreachable", "no coordinator"))
            }
        };
        let said = ask_in(&mut order, &names, ms(20), ask);
        assert!(
            said[2]
                .as_ref()
                .is_err_and(|f| f.message.contains("no time was left"))
        );
        assert_eq!(order, [1, 2, 3, 0]);
        ask_in(&mut order, &names, ms(20), ask);
        assert_eq!(order, [2, 3, 0, 1]);
        let said = ask_in(&mut order, &names, ms(20), ask);
        assert!(said[2].is_ok());
        let is_denied = |failure: &Failure| failure.code.name == "consumer-group-denied";
        assert!(said[3].as_ref().is_err_and(is_denied));
        assert_eq!(order, [2, 3, 1, 0]);
    }

    #[test]
    fn a_round_takes_no_longer_than_its_answers_count() {
        assert!(ANSWERS + LOOKS <= crate::telemetry::PROOF_LASTS);
    }

    #[test]
    fn one_group_without_coordinator_hides_no_other() {
        let away = || Err(Failure::new("kafka-unreachable", "no coordinator"));
        let known = || Ok(Committed::new());
        let denied = || Err(Failure::new("consumer-group-denied", "not allowed"));
        for answered in [known(), denied()] {
            assert!(nobody_answers(&[away(), answered, away()]).is_none());
        }
        let failure = nobody_answers(&[away(), away()]).expect("a failure of all");
        assert_eq!(failure.code.name, "kafka-unreachable");
    }
}
