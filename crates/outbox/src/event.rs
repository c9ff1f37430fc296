//! An event before it is written.

use std::{borrow::Cow, fmt};

use ::event::EventType;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

/// An event: its type, what it is about, its payload and headers.
///
/// ```
/// use outbox::Event;
///
/// let event = Event::new("transfers.settled")
///     .transfer_id("tr-1")
///     .header("tenant", "acme")
///     .payload(&serde_json::json!({"amount_cents": 1250}));
/// ```
///
/// Its id is a UUIDv7, made here: ids grow in the order in which one process makes them. `Debug` does
/// not show the payload.
#[must_use = "an event is written by `emit`"]
pub struct Event {
    pub(crate) id: Uuid,
    pub(crate) event_type: Cow<'static, str>,
    pub(crate) transfer_id: Option<String>,
    pub(crate) payload: Payload,
    pub(crate) headers: Vec<(String, serde_json::Value)>,
}

/// What became of the payload; an error is told by `emit`.
pub(crate) enum Payload {
    Missing,
    Json(Box<RawValue>),
    Failed(serde_json::Error),
}

impl Event {
    /// An event of a type, such as `transfers.settled`, which by default is its topic, too: then it has 1
    /// to 249 of the characters `a-z A-Z 0-9 . _ -`.
    pub fn new(event_type: impl Into<Cow<'static, str>>) -> Self {
        Self {
            id: Uuid::now_v7(),
            event_type: event_type.into(),
            transfer_id: None,
            payload: Payload::Missing,
            headers: Vec::new(),
        }
    }

    /// An event with a payload that knows its type.
    pub fn of<T: EventType + Serialize>(payload: &T) -> Self {
        Self::new(T::TYPE).payload(payload)
    }

    /// Another id, where the caller has one: writing it twice then is an error of the database.
    pub fn with_id(mut self, id: Uuid) -> Self {
        self.id = id;
        self
    }

    /// What the event is about. Events with the same one keep their order: it is the key of the record.
    /// Without one, the event's id is the key.
    pub fn transfer_id(mut self, transfer_id: impl Into<String>) -> Self {
        self.transfer_id = Some(transfer_id.into());
        self
    }

    /// The payload. If it can't be turned into JSON, `emit` says so.
    pub fn payload<T: Serialize + ?Sized>(mut self, payload: &T) -> Self {
        self.payload = match to_raw_value(payload) {
            Ok(json) => Payload::Json(json),
            Err(error) => Payload::Failed(error),
        };
        self
    }

    /// A header of the record. Of two with one name the last one counts. Names that outboxd sets itself
    /// (`eventId`, `type`, `content-type`, `position`, and those of encryption) are refused by `emit`.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set_header(name.into(), value.into().into());
        self
    }

    pub(crate) fn set_header(&mut self, name: String, value: serde_json::Value) {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value));
    }

    /// Its id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Its type.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("event_type", &self.event_type)
            .field("transfer_id", &self.transfer_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_in_the_order_of_their_making() {
        let ids: Vec<_> = (0..10_000).map(|_| Event::new("a").id()).collect();
        assert!(ids.is_sorted_by(|one, next| one < next));
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
    }

    #[test]
    fn debug_shows_neither_payload_nor_headers() {
        let event = Event::new("a").header("h", "SECRET").payload("SECRET");
        assert!(!format!("{event:?}").contains("SECRET"));
    }
}
