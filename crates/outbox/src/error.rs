//! Why an event was not written. No message holds a payload.

use std::error::Error;

use envelope::TopicRefusal;
use uuid::Uuid;

/// The error of the driver, to be downcast to its own type.
pub type DatabaseError = Box<dyn Error + Send + Sync>;

/// Why no event of a call was written.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// An event is not publishable. The database was not asked, so the transaction can go on.
    #[error("event {event_id} of type {event_type:?} can't be published")]
    Refused {
        /// The event.
        event_id: Uuid,
        /// Its type.
        event_type: String,
        /// Why.
        #[source]
        refusal: Refusal,
    },
    /// The database refused the statement: the transaction has failed and must be rolled back.
    #[error("the events could not be written to the outbox")]
    Database(#[source] DatabaseError),
    /// The database took the statement, but not all rows: a trigger or rule of the table drops some.
    /// The transaction must be rolled back.
    #[error("the outbox took {written} of {given} events: look for a trigger or rule of the table")]
    RowsMissing {
        /// Events of the call.
        given: usize,
        /// Rows written.
        written: u64,
    },
}

/// Why an event is not publishable.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The type is empty.
    #[error("its type is empty")]
    EmptyType,
    /// Its topic is no topic, or none that events may go to.
    #[error("its topic would be {topic:?}: {refusal}")]
    Topic {
        /// The topic.
        topic: String,
        /// What is wrong with it.
        refusal: TopicRefusal,
    },
    /// No payload was given.
    #[error("it has no payload: give one, if need be null")]
    NoPayload,
    /// The payload could not be turned into JSON.
    #[error("its payload could not be serialized")]
    Payload(#[source] serde_json::Error),
    /// A text of it holds U+0000: as a character, or as an escape in JSON.
    #[error("it holds the character U+0000, which Postgres can't store")]
    Nul,
    /// A header whose name is empty or taken.
    #[error("its header {name:?} can't be set: the name is empty, or one that outboxd sets itself")]
    Header {
        /// The name.
        name: String,
    },
    /// The record would be larger than the relay publishes.
    #[error(
        "its record would have about {bytes} bytes, more than {max_bytes}: make it smaller, or raise \
         event.max_bytes of the relay and max_bytes here"
    )]
    TooLarge {
        /// Key, value and headers.
        bytes: usize,
        /// [`Outbox::max_bytes`](crate::Outbox::max_bytes).
        max_bytes: usize,
    },
    /// Its payload could not be encrypted.
    #[cfg(feature = "encryption")]
    #[error("its payload could not be encrypted")]
    Encryption(#[source] ::event::encryption::SealError),
}
