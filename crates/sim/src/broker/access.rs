//! Which topics may be written to, and by which records.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use delivery::{Answer, RefusalCause, RefusedEvent};

use super::{Broker, DEAD_LETTER_TOPIC, Message, PartitionId, Refusal};
use crate::wal::{EVENT_TYPES, POISON};

/// Largest record that topics of events take.
const EVENT_BYTES: usize = 8_000;
/// And the dead-letter topic: not all that the others refuse.
const DEAD_LETTER_BYTES: usize = 14_000;

/// What may be done with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// It may be written to.
    Usable,
    /// It does not exist, or not for this client.
    Missing,
    /// It may not be written to.
    Denied,
}

#[derive(Debug, Default)]
pub(super) struct Accesses {
    now: BTreeMap<String, Access>,
    ever: BTreeSet<(String, Access)>,
}

impl Broker {
    /// An operator changes what may be done with a topic.
    pub fn set_access(&mut self, topic: &str, access: Access) {
        let accesses = &mut self.accesses;
        accesses.now.insert(topic.to_owned(), access);
        accesses.ever.insert((topic.to_owned(), access));
    }

    /// Every topic may be written to.
    pub fn repair(&mut self) {
        self.accesses.now.clear();
    }

    /// What may be done with a topic.
    pub fn access(&self, topic: &str) -> Access {
        let access = self.accesses.now.get(topic).copied();
        access.unwrap_or(Access::Usable)
    }

    /// Whether that was ever so.
    pub fn was(&self, topic: &str, access: Access) -> bool {
        self.accesses.ever.contains(&(topic.to_owned(), access))
    }

    /// Whether a topic could ever not be written to.
    pub fn was_unusable(&self, topic: &str) -> bool {
        [Access::Missing, Access::Denied]
            .into_iter()
            .any(|access| self.was(topic, access))
    }

    /// What a client is told of a topic.
    pub fn ask(&self, topic: &str, now: Duration) -> Result<Answer, Refusal> {
        self.answer(now)?;
        if !self.topics.iter().any(|(name, _)| name == topic) {
            return Ok(Answer::Missing);
        }
        Ok(match self.access(topic) {
            Access::Usable => Answer::Usable {
                max_bytes: largest(topic),
            },
            Access::Missing => Answer::Missing,
            Access::Denied => Answer::Denied,
        })
    }

    /// What a client reports of a refusal that no later try of it can change, if it is about records.
    pub fn told(&self, refusal: Refusal) -> Option<delivery::Refusal> {
        let (id, cause) = match refusal {
            Refusal::Unacceptable(id) => (Some(id), RefusalCause::Contents),
            Refusal::Missing(id) => (Some(id), RefusalCause::TopicMissing),
            Refusal::Denied(id) => (id, RefusalCause::TopicDenied),
            Refusal::Unavailable
            | Refusal::Concurrent
            | Refusal::Fenced
            | Refusal::NoTransaction
            | Refusal::OutOfOrder
            | Refusal::Retriable
            | Refusal::Rejected => return None,
        };
        let topic = id.map(|id| self.topics[id.topic].0.clone());
        Some(delivery::Refusal {
            topic: topic.unwrap_or_default(),
            cause,
            reason: refusal.to_string(),
            events: Vec::new(),
        })
    }

    /// Of records that a topic of events does not take, those that are at fault.
    pub fn named(&self, id: PartitionId, messages: &[Message]) -> Vec<RefusedEvent> {
        let is_bad =
            |message: &&Message| self.is_poisonous(id, message) || self.is_large(id, message);
        let event = |message: &Message| {
            Some(RefusedEvent {
                position: message.position()?.parse().ok()?,
                id: message.header(envelope::EVENT_ID_HEADER)?.to_owned(),
                reason: "named".to_owned(),
            })
        };
        match id.topic < EVENT_TYPES.len() {
            true => messages.iter().filter(is_bad).filter_map(event).collect(),
            false => Vec::new(),
        }
    }

    fn is_poisonous(&self, id: PartitionId, message: &Message) -> bool {
        let value = message.value.as_deref().unwrap_or_default();
        id.topic < EVENT_TYPES.len() && contains(value, POISON.as_bytes())
    }

    fn is_large(&self, id: PartitionId, message: &Message) -> bool {
        let bytes = message.value.as_ref().map_or(0, Vec::len);
        bytes > largest(&self.topics[id.topic].0)
    }

    /// Whether records may be added.
    pub(super) fn admit(&self, id: PartitionId, messages: &[Message]) -> Result<(), Refusal> {
        let (topic, _) = &self.topics[id.topic];
        let is_bad =
            |message: &Message| self.is_poisonous(id, message) || self.is_large(id, message);
        match self.access(topic) {
            Access::Missing => Err(Refusal::Missing(id)),
            Access::Denied => Err(Refusal::Denied(Some(id))),
            Access::Usable if messages.iter().any(is_bad) => Err(Refusal::Unacceptable(id)),
            Access::Usable => Ok(()),
        }
    }
}

fn largest(topic: &str) -> usize {
    match topic {
        DEAD_LETTER_TOPIC => DEAD_LETTER_BYTES,
        _ if EVENT_TYPES.contains(&topic) => EVENT_BYTES,
        _ => usize::MAX,
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
