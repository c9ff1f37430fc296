//! Dead letters: of events that can't be published, for a reason that the run explains, and resolved
//! once, by a request that names them.

use std::collections::{BTreeMap, BTreeSet};

use delivery::OnDeadLetter;
use envelope::dead_letter::{Entry, Found};

use super::Expectation;
use super::demands::Demanded;
use super::expectation::Expected;
use crate::Violation;
use crate::adversity::Adversity;
use crate::broker::{Access, Broker, Message, RecordId};
use crate::wal::{Flaw, Operation};

/// An entry of the dead-letter topic.
#[derive(Debug)]
pub struct Burial {
    /// Where it stands.
    pub record: RecordId,
    /// The request that has put it there again.
    pub request: String,
    /// Why it is there.
    pub class: String,
    /// The event is in it, and could be published.
    pub is_publishable: bool,
    /// Whether it was published (or not) by a request.
    pub resolution: Option<Resolution>,
}

/// What has become of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Published, or dead-lettered once more.
    Replayed,
    /// Given up.
    Dropped,
}

/// Entries by where they stand, and open ones by their key.
#[derive(Debug, Default)]
pub struct Burials {
    /// The event of each entry; none if nothing is expected of it any more.
    places: BTreeMap<(i32, i64), Option<usize>>,
    /// Keys of which an event was ever dead.
    dead_keys: BTreeSet<String>,
}

impl Burials {
    /// Events from that rank on are not expected any more.
    pub fn forget_from(&mut self, rank: usize) {
        let places = self.places.values_mut();
        places.for_each(|event| *event = event.filter(|event| *event < rank));
    }
}

impl Expectation {
    /// A record of the dead-letter topic is durable.
    pub fn buried(
        &mut self,
        id: RecordId,
        broker: &Broker,
        adversity: &Adversity,
    ) -> Result<(), Violation> {
        let message = &broker.record(id).message;
        let headers: Vec<_> = message
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        match Found::read(&headers) {
            Some(Found::Entry(entry)) => self.entered(id, &entry, message, broker, adversity),
            Some(Found::Resolution {
                partition,
                offset,
                resolution,
                request,
            }) => self.resolved((partition, offset), resolution, request),
            None => Err(Violation::Phantom("a dead letter of nothing".into())),
        }
    }

    fn entered(
        &mut self,
        id: RecordId,
        entry: &Entry<'_>,
        message: &Message,
        broker: &Broker,
        adversity: &Adversity,
    ) -> Result<(), Violation> {
        let place = (id.partition.number(), id.offset as i64);
        let rank = self.rank(entry.row_id);
        self.burials.places.insert(place, rank);
        let Some(rank) = rank else {
            let key = String::from_utf8_lossy(message.key.as_deref().unwrap_or_default());
            self.burials.dead_keys.insert(key.into_owned());
            return match self.is_void(entry.row_id) {
                true => Ok(()),
                false => Err(Violation::Phantom(entry.row_id.to_owned())),
            };
        };
        let expected = &mut self.events[rank];
        let key = expected.key();
        let is_explained = match entry.class {
            "parked" => {
                adversity.on_dead_letter == OnDeadLetter::ParkKey
                    && self.burials.dead_keys.contains(&key)
            }
            class => explains(class, expected, broker),
        };
        let position = expected.position;
        if !is_explained {
            let class = entry.class.to_owned();
            return Err(Violation::Misjudged { position, class });
        }
        expected.compare_dead(entry, message)?;
        let flaw = expected.flaw();
        expected.burials.push(Burial {
            record: id,
            request: entry.request.to_owned(),
            class: entry.class.to_owned(),
            is_publishable: !entry.is_stub && flaw != Some(Flaw::Typeless),
            resolution: None,
        });
        self.burials.dead_keys.insert(key);
        self.advance();
        self.check_release(rank, entry)
    }

    /// A release that parks again does so behind an event that is dead for itself.
    fn check_release(&self, rank: usize, entry: &Entry<'_>) -> Result<(), Violation> {
        let mut demands = self.demands.iter();
        let is_release = |d: &Demanded| {
            let key = match &d.demand.operation {
                Operation::Release(key) => key,
                _ => return false,
            };
            d.demand.id() == entry.request && *key == self.events[rank].key()
        };
        // Dead letters that a promotion has voided are published, too.
        if self.has_void() || !self.is_exact || entry.class != "parked" || !demands.any(is_release)
        {
            return Ok(());
        }
        let (before, at) = (&self.events[..rank], &self.events[rank]);
        let is_cause = |b: &Burial| {
            let is_left = b.resolution.is_none() && !b.is_publishable;
            b.class != "parked" && b.request == entry.request || is_left
        };
        let same = before.iter().filter(|event| event.key() == at.key());
        match same.flat_map(|event| &event.burials).any(is_cause) {
            true => Ok(()),
            false => Err(Violation::Unserved {
                position: at.position,
                request: entry.request.to_owned(),
            }),
        }
    }

    fn resolved(
        &mut self,
        place: (i32, i64),
        resolution: &str,
        request: &str,
    ) -> Result<(), Violation> {
        let Some(event) = self.burials.places.get(&place) else {
            return Err(Violation::Phantom(format!("a resolution of {place:?}")));
        };
        let Some(rank) = *event else {
            return Ok(());
        };
        let demand = self.demands.iter().find(|d| d.demand.id() == request);
        let expected = &mut self.events[rank];
        let position = expected.position;
        let unasked = Violation::Unasked {
            position,
            request: request.to_owned(),
        };
        if let Some(demand) = demand {
            // Where the stream is repeated, later events may be dead already.
            let is_before = !self.is_exact || expected.position < demand.position;
            let is_meant = demand.names(expected) && is_before;
            let drops = matches!(demand.demand.operation, Operation::Drop(_));
            if !is_meant || drops != (resolution == "dropped") {
                return Err(unasked);
            }
        } else if !self.void_demands.contains(request) {
            return Err(unasked);
        }
        let mut burials = expected.burials.iter_mut();
        let burial =
            burials.find(|b| (b.record.partition.number(), b.record.offset as i64) == place);
        let Some(burial) = burial else {
            return Ok(());
        };
        if burial.resolution.is_some() && self.is_exact {
            return Err(Violation::ServedTwice { position });
        }
        burial.resolution = Some(match resolution {
            "dropped" => Resolution::Dropped,
            _ => Resolution::Replayed,
        });
        Ok(())
    }
}

/// Whether the run has given cause for such a verdict.
fn explains(class: &str, expected: &Expected, broker: &Broker) -> bool {
    let flaw = expected.flaw();
    match class {
        "mapping/null-type" => flaw == Some(Flaw::Typeless),
        "too-large" => flaw == Some(Flaw::Large),
        "topic-missing" => broker.was(expected.topic, Access::Missing),
        "topic-denied" => broker.was(expected.topic, Access::Denied),
        // No event is to blame for what is wrong with a topic.
        "refused" => flaw == Some(Flaw::Poisonous),
        _ => false,
    }
}

impl Expected {
    /// Neither published nor resolved.
    pub fn is_open(&self) -> bool {
        self.burials
            .iter()
            .any(|burial| burial.resolution.is_none())
    }

    /// It is in the dead letters and was not published from there.
    pub fn is_dead(&self) -> bool {
        !self.burials.is_empty() && self.records.is_empty()
    }

    /// A request may have had it published more than once.
    pub fn replays(&self) -> usize {
        let burials = self.burials.iter();
        burials
            .filter(|burial| burial.resolution == Some(Resolution::Replayed))
            .count()
    }
}
