//! What a command would do, as things are now.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use delivery::{Command, Filter, RecordKey};
use envelope::dead_letter::Entry;
use serde_json::{Value, json};

use super::{survey, survey_again};
use crate::cli::problem::Problem;
use crate::cli::requests;
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::sink::read_latest;

/// A command, and the letters that it is about.
pub(super) struct Target {
    pub command: Command,
    pub filter: Filter,
}

impl Target {
    /// Why a letter stays open, if it does.
    fn stays(&self, entry: &Entry<'_>, key: Option<&[u8]>, parked: &Parked) -> Option<Stays> {
        let released = match &self.command {
            Command::DlqDrop { .. } | Command::Replay { .. } => return None,
            Command::DlqRelease { .. } => true,
            Command::DlqReplay { .. } => false,
        };
        if !entry.is_event() {
            return Some(Stays::NoEvent);
        }
        let key = RecordKey::of_letter(entry, key);
        let is_parked = key.is_some_and(|key| parked.contains(entry.service, &key));
        (!released && is_parked).then_some(Stays::Parked)
    }

    /// The verb of what becomes of letters.
    pub fn verb(&self) -> &'static str {
        match self.command {
            Command::DlqDrop { .. } => "drop",
            Command::DlqRelease { .. } => "release",
            Command::DlqReplay { .. } | Command::Replay { .. } => "replay",
        }
    }
}

/// Why a letter stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stays {
    NoEvent,
    Parked,
}

/// The parked keys.
pub(super) struct Parked(HashSet<(String, RecordKey)>);

impl Parked {
    pub async fn read(pipeline: &Pipeline) -> Result<Self, Failure> {
        let parked = read_latest(pipeline).await?.exceptions.parked;
        let keys = parked
            .into_iter()
            .map(|parked| (parked.service, parked.key));
        Ok(Self(keys.collect()))
    }

    pub fn contains(&self, service: &str, key: &RecordKey) -> bool {
        !self.0.is_empty() && self.0.contains(&(service.to_owned(), key.clone()))
    }
}

/// Letters that stay open, by why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// They are not the event itself.
    pub no_events: u64,
    /// Their key is parked.
    pub parked: u64,
    /// For another reason, such as that they came later.
    pub others: u64,
}

impl Left {
    fn add(&mut self, stays: Option<Stays>) {
        match stays {
            Some(Stays::NoEvent) => self.no_events += 1,
            Some(Stays::Parked) => self.parked += 1,
            None => self.others += 1,
        }
    }

    pub fn document(&self) -> Value {
        json!({ "no_events": self.no_events, "parked": self.parked, "others": self.others })
    }

    /// What there is to do about them, one line each.
    pub fn advice(&self) -> Vec<String> {
        let lines = [
            (
                self.no_events,
                "do not hold the event, which was too large or could not be mapped: `outboxd \
                 replay --id EVENT_ID` publishes its row anew, then drop them",
            ),
            (
                self.parked,
                "are of parked keys: `outboxd dlq release` publishes them in order",
            ),
            (
                self.others,
                "came later, or are of tables that the relay does not serve: those can only be dropped",
            ),
        ];
        let some = lines.into_iter().filter(|(letters, _)| *letters > 0);
        some.map(|(letters, why)| format!("{letters} stay open: they {why}"))
            .collect()
    }
}

/// What is open and would be resolved.
#[derive(Default)]
pub(super) struct Preview {
    pub letters: u64,
    /// When the newest of them became one.
    pub newest: String,
    /// By service and class.
    classes: BTreeMap<(String, String), u64>,
    pub left: Left,
    /// Places and event ids that name no open letter.
    pub unknown: Vec<String>,
}

impl Preview {
    pub fn of(target: &Target, pipeline: &Pipeline, parked: &Parked) -> Result<Self, Failure> {
        let mut preview = Self::default();
        let filter = &target.filter;
        let mut unknown: BTreeSet<&str> = filter.ids.iter().map(String::as_str).collect();
        survey(pipeline, filter.service.as_deref())?.each(|letter, entry, resolution| {
            let (key, place) = (letter.key.as_deref(), letter.place());
            if resolution.is_some() || !filter.matches(entry, key, &place) {
                return;
            }
            unknown.remove(place.as_str());
            unknown.remove(entry.row_id);
            match target.stays(entry, key, parked) {
                None => preview.count(entry),
                stays => preview.left.add(stays),
            }
        })?;
        preview.unknown = unknown.into_iter().map(str::to_owned).collect();
        Ok(preview)
    }

    fn count(&mut self, entry: &Entry<'_>) {
        self.letters += 1;
        if self.newest.as_str() < entry.last_failure {
            entry.last_failure.clone_into(&mut self.newest);
        }
        let class = (entry.service.to_owned(), entry.class.to_owned());
        *self.classes.entry(class).or_default() += 1;
    }

    pub fn document(&self) -> Value {
        let class = |((service, class), letters): (&(String, String), &u64)| json!({ "service": service, "class": class, "letters": letters });
        json!({
            "dry_run": true,
            "letters": self.letters,
            "classes": self.classes.iter().map(class).collect::<Vec<_>>(),
            "left": self.left.document(),
        })
    }

    pub fn lines(&self, verb: &str) -> Vec<String> {
        let class = |((service, class), letters): (&(String, String), &u64)| {
            format!("  {letters} of {service}, {class}")
        };
        let mut lines = vec![format!("would {verb} {} dead letters", self.letters)];
        lines.extend(self.classes.iter().map(class));
        lines.extend(self.left.advice());
        lines
    }
}

/// What has become of a request.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub published: u64,
    /// Dead-lettered again.
    again: u64,
    /// Those of them that are open still.
    pub open_again: u64,
    pub dropped: u64,
    pub left: Left,
}

impl Outcome {
    /// Reads it from the topics, once it is carried out.
    pub fn of(
        target: &Target,
        request: &str,
        pipeline: &Pipeline,
        parked: &Parked,
    ) -> Result<Self, Failure> {
        let filter = &target.filter;
        let survey = survey_again(pipeline, filter.service.as_deref())?;
        let mut outcome = Self::default();
        let mut replayed = 0_u64;
        for resolution in survey.resolutions().filter(|r| r.request == request) {
            match resolution.kind.as_str() {
                "dropped" => outcome.dropped += 1,
                _ => replayed += 1,
            }
        }
        survey.each(|letter, entry, resolution| {
            let key = letter.key.as_deref();
            if entry.request == request {
                outcome.again += 1;
                outcome.open_again += u64::from(resolution.is_none());
            } else if resolution.is_none() && filter.matches(entry, key, &letter.place()) {
                outcome.left.add(target.stays(entry, key, parked));
            }
        })?;
        outcome.published = replayed.saturating_sub(outcome.again);
        Ok(outcome)
    }

    /// What was asked for and has not come about, so that the exit code tells it too.
    pub fn shortfall(&self, target: &Target, parked: &Parked) -> Option<Problem> {
        let failed_again = requests::shortfall(self.open_again).map(|problem| problem.message);
        let still_parked = match &target.command {
            Command::DlqRelease { service, key } if parked.contains(service, key) => {
                Some(format!("key {key} of service {service} is parked still"))
            }
            Command::DlqRelease { .. }
            | Command::DlqReplay { .. }
            | Command::DlqDrop { .. }
            | Command::Replay { .. } => None,
        };
        let told: Vec<_> = failed_again.into_iter().chain(still_parked).collect();
        (!told.is_empty()).then(|| Problem::new(told.join("; "), requests::AGAIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Target {
        Target {
            command: Command::DlqRelease {
                service: "bank".into(),
                key: "k".into(),
            },
            filter: Filter::default(),
        }
    }

    fn replay() -> Target {
        let filter = Filter::default();
        Target {
            command: Command::DlqReplay {
                filter: filter.clone(),
            },
            filter,
        }
    }

    #[test]
    fn what_failed_again_is_told_by_the_exit_code() {
        let parked = Parked([("bank".to_owned(), "k".into())].into());
        let none = Parked(HashSet::new());
        let told = |target: &Target, open_again, parked: &Parked| {
            let outcome = Outcome {
                published: 1,
                again: 3,
                open_again,
                ..Outcome::default()
            };
            outcome.shortfall(target, parked).map(|p| p.message)
        };
        assert_eq!(told(&replay(), 0, &parked), None);
        assert_eq!(told(&release(), 0, &none), None);
        let again = "2 events failed again, and are new dead letters";
        assert_eq!(told(&replay(), 2, &parked).as_deref(), Some(again));
        let still = "key k of service bank is parked still";
        assert_eq!(told(&release(), 0, &parked).as_deref(), Some(still));
        let both = format!("{again}; {still}");
        assert_eq!(told(&release(), 2, &parked), Some(both));
    }
}
