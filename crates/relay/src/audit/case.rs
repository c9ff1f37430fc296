//! One event: what is known of it on both sides, and what is wrong with that.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Publishers;
use super::content::Part;
use super::entry::{Mapped, Outcome, Row, Sighting, State, What};
use super::keeping::Keeping;
use super::report::{Finding, Kind, PassedOver, Place};
use crate::config::WriteBack;

/// What is known of an event.
#[derive(Debug, Default)]
pub(super) struct Case {
    pub rows: Vec<Row>,
    pub sightings: Vec<Sighting>,
}

/// By what a case is judged.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub tables: Vec<Table>,
    /// Of topics whose settings could be read.
    pub keeping: HashMap<String, Keeping>,
    /// The database's clock, milliseconds since 1970.
    pub now_ms: i64,
    /// The relay is known to be past every row.
    pub settled: bool,
    /// Rows of events before this time may have been removed.
    pub pruned_before_ms: Option<i64>,
    pub publishers: Publishers,
    /// Requests that there are.
    pub requests: HashSet<String>,
    pub letters: Letters,
}

/// What may have become of dead letters while the topics were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Letters {
    /// Nothing was asked for.
    #[default]
    AtRest,
    /// Some may have been published between the reading of event topics and of dead-letter topics.
    Moving,
}

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub name: String,
    pub dead_letter_topic: String,
    pub write_back: WriteBack,
}

/// What a case amounts to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    pub findings: Vec<Finding>,
    pub passed_over: PassedOver,
    /// A state that may have been written since the row was read: what it should be.
    pub doubtful: Option<(State, Finding)>,
}

/// Records of an event that belong to the stream, or to one request.
#[derive(Debug, Default)]
struct Group<'a> {
    sightings: Vec<&'a Sighting>,
    events: usize,
    letters: usize,
    replayed: usize,
}

impl Group<'_> {
    /// Whether the topic that its dead letters were for need not have it any more.
    fn is_expired(&self, facts: &Facts) -> bool {
        self.sightings.iter().any(|sighting| match &sighting.what {
            What::Event => false,
            What::Letter { to, .. } => sighting.at_ms < kept_since(to, facts),
        })
    }

    /// Records beyond those that there are to be. Each dead letter that is published again becomes
    /// one record more.
    fn surplus(&self, rows: usize) -> isize {
        let count = |number| isize::try_from(number).unwrap_or(isize::MAX);
        count(self.events + self.letters) - count(self.replayed) - count(rows.max(1))
    }
}

impl Case {
    /// What is wrong with it. Without a row: nobody has one.
    pub fn judge(&self, facts: &Facts) -> Judged {
        let mut judged = Judged::default();
        match self.rows.first() {
            Some(row) if self.sightings.is_empty() => self.unseen(row, facts, &mut judged),
            Some(row) => {
                self.count_groups(Some(row), facts, &mut judged);
                self.compare(facts, &mut judged);
                self.check_state(row, facts, &mut judged);
            }
            None => match facts.publishers {
                Publishers::Others => judged.passed_over.of_others += 1,
                Publishers::Ours => {
                    self.count_groups(None, facts, &mut judged);
                    self.explain(facts, &mut judged);
                }
            },
        }
        judged
    }

    fn unseen(&self, row: &Row, facts: &Facts, judged: &mut Judged) {
        // Who says SENT or FAILED has been told so by the relay.
        let may_wait = match row.state {
            State::Pending | State::Untold => !facts.settled,
            State::Sent | State::Failed => false,
        };
        if may_wait {
            judged.passed_over.waiting += 1;
        } else if is_expired(row, facts) {
            judged.passed_over.expired += 1;
        } else {
            let detail = format!(
                "committed, state {}, and neither in {} nor in a dead-letter topic",
                row.state.name(),
                topic_of(row, facts)
            );
            judged
                .findings
                .push(finding(Kind::Missing, Some(row), facts, &[], detail));
        }
    }

    fn groups(&self) -> BTreeMap<Option<&str>, Group<'_>> {
        let mut groups: BTreeMap<_, Group<'_>> = BTreeMap::new();
        for sighting in &self.sightings {
            let group = groups.entry(sighting.replay.as_deref()).or_default();
            group.sightings.push(sighting);
            match &sighting.what {
                What::Event => group.events += 1,
                What::Letter { outcome, .. } => {
                    group.letters += 1;
                    group.replayed += usize::from(*outcome == Outcome::Replayed);
                }
            }
        }
        groups
    }

    fn count_groups(&self, row: Option<&Row>, facts: &Facts, judged: &mut Judged) {
        for (request, group) in self.groups() {
            judged.passed_over.replayed += u64::from(request.is_some());
            let surplus = group.surplus(self.rows.len());
            if surplus != 0 && group.letters > 0 && facts.letters == Letters::Moving {
                judged.passed_over.waiting += 1;
                continue;
            }
            if surplus > 0 {
                let why = match request {
                    Some(request) => format!("request {request} accounts for one record"),
                    None => "nothing accounts for more than one record".to_owned(),
                };
                let (events, letters) = (group.events, group.letters);
                let detail =
                    format!("{events} times in event topics, {letters} dead letters: {why}");
                judged
                    .findings
                    .push(finding(Kind::Doubled, row, facts, &group.sightings, detail));
            }
            if surplus < 0 && !group.is_expired(facts) {
                let (replayed, events) = (group.replayed, group.events);
                let detail = format!(
                    "of {replayed} dead letters that were published again {events} are in a topic"
                );
                judged
                    .findings
                    .push(finding(Kind::Missing, row, facts, &group.sightings, detail));
            }
        }
    }

    /// A row as it is now must become what stands in the topics.
    fn compare(&self, facts: &Facts, judged: &mut Judged) {
        for sighting in &self.sightings {
            let becomes_it = |row: &&Row| {
                matches!(row.mapped, Mapped::Event { .. }) && differences(row, sighting).is_empty()
            };
            let fitting = self.rows.iter().find(becomes_it);
            let Some(row) = fitting.or(self.rows.first()) else {
                return;
            };
            let detail = match &row.mapped {
                Mapped::Event { .. } => {
                    let parts = differences(row, sighting);
                    if parts.is_empty() {
                        continue;
                    }
                    let names: Vec<_> = parts.into_iter().map(Part::name).collect();
                    format!("not what its row becomes: {}", names.join(", "))
                }
                Mapped::Nothing(_) if sighting.content.is_none() => continue,
                Mapped::Nothing(reason) => format!("its row can't become an event: {reason}"),
            };
            let about = [sighting];
            judged
                .findings
                .push(finding(Kind::Altered, Some(row), facts, &about, detail));
        }
    }

    fn check_state(&self, row: &Row, facts: &Facts, judged: &mut Judged) {
        let is_published = self.sightings.iter().any(|s| s.what == What::Event);
        let rests = |s: &Sighting| match &s.what {
            What::Event => false,
            What::Letter { outcome, .. } => *outcome != Outcome::Replayed,
        };
        let is_dead = !is_published && self.sightings.iter().any(rests);
        let mode = table(row, facts).map_or(WriteBack::Off, |table| table.write_back);
        let expected = match (mode, is_published, is_dead) {
            (WriteBack::Off, _, _) | (_, false, false) => return,
            (WriteBack::All, true, _) => State::Sent,
            (WriteBack::Failures, true, _) if row.state == State::Failed => State::Sent,
            (WriteBack::Failures, true, _) => return,
            (WriteBack::All | WriteBack::Failures, false, true) => State::Failed,
        };
        if row.state == expected || row.state == State::Untold {
            return;
        }
        if !facts.settled && row.state == State::Pending {
            judged.passed_over.waiting += 1;
            return;
        }
        let says = match expected {
            State::Failed => "only in a dead-letter topic",
            State::Pending | State::Sent | State::Untold => "published",
        };
        let detail = format!("state {}, but it is {says}", row.state.name());
        let about: Vec<_> = self.sightings.iter().collect();
        let finding = finding(Kind::State, Some(row), facts, &about, detail);
        judged.doubtful = Some((expected, finding));
    }

    /// An event without a row.
    fn explain(&self, facts: &Facts, judged: &mut Judged) {
        let occurred = self.sightings.iter().map(|s| s.occurred_ms).min();
        let may_be_pruned = facts
            .pruned_before_ms
            .is_some_and(|before| occurred.is_some_and(|at| at < before));
        if may_be_pruned {
            judged.passed_over.pruned += 1;
            return;
        }
        let about: Vec<_> = self.sightings.iter().collect();
        let detail = "no table has its row, and retention does not explain that".to_owned();
        judged
            .findings
            .push(finding(Kind::WithoutRow, None, facts, &about, detail));
    }
}

fn finding(
    kind: Kind,
    row: Option<&Row>,
    facts: &Facts,
    about: &[&Sighting],
    detail: String,
) -> Finding {
    let named = about.first();
    let (id, event_type) = match (row, named) {
        (Some(row), _) => (row.id.clone(), row.event_type.clone()),
        (None, Some(sighting)) => (sighting.id.clone(), sighting.event_type.clone()),
        (None, None) => Default::default(),
    };
    let place = |sighting: &&Sighting| Place {
        place: sighting.place(),
        position: sighting.position.clone(),
        replay: sighting.replay.clone(),
    };
    Finding {
        kind,
        table: row
            .and_then(|row| table(row, facts))
            .map(|table| table.name.clone()),
        event_id: id,
        event_type,
        detail,
        places: about.iter().map(place).collect(),
    }
}

fn table<'f>(row: &Row, facts: &'f Facts) -> Option<&'f Table> {
    facts.tables.get(usize::from(row.table))
}

/// Where the event is to be looked for.
fn topic_of<'a>(row: &'a Row, facts: &'a Facts) -> &'a str {
    let dead = table(row, facts).map_or("", |table| table.dead_letter_topic.as_str());
    match (&row.mapped, row.state) {
        (_, State::Failed) | (Mapped::Nothing(_), _) => dead,
        (Mapped::Event { topic, .. }, State::Pending | State::Sent | State::Untold) => topic,
    }
}

/// Whether its topic need not have it any more. Where no time tells, anything may be gone that any
/// record may.
fn is_expired(row: &Row, facts: &Facts) -> bool {
    let kept_since = kept_since(topic_of(row, facts), facts);
    match row.at_ms {
        Some(at) => at < kept_since,
        None => kept_since > i64::MIN,
    }
}

/// Records of a topic from this time on, milliseconds since 1970, are there.
fn kept_since(topic: &str, facts: &Facts) -> i64 {
    let keeping = facts.keeping.get(topic).copied();
    keeping.unwrap_or(Keeping::FOR_EVER).since(facts.now_ms)
}

/// What is different between what a row becomes and a record.
fn differences(row: &Row, sighting: &Sighting) -> Vec<Part> {
    let Mapped::Event {
        topic,
        content,
        dated,
    } = &row.mapped
    else {
        return Vec::new();
    };
    let Some(seen) = &sighting.content else {
        return Vec::new();
    };
    let in_topic = match &sighting.what {
        What::Event => &sighting.topic,
        What::Letter { to, .. } => to,
    };
    let mut parts = content.differences(seen, *dated);
    let mut also = |part, is_wrong| {
        if is_wrong {
            parts.push(part);
        }
    };
    also(Part::Topic, topic != in_topic);
    let by_commit = *dated == super::content::Dated::ByCommit;
    also(Part::Time, by_commit && !sighting.is_dated_by_record);
    let is_placed = sighting.position.parse::<pgoutput::Position>().is_ok();
    also(Part::Position, !is_placed);
    parts
}

#[cfg(test)]
#[path = "case_tests.rs"]
mod tests;
