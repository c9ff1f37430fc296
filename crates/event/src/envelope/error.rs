//! Why a record is no event.

/// A record is none that the relay writes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no value, where an envelope was expected.
    #[error("the record has no value, but an envelope was expected; are bare payloads published?")]
    NoValue,
    /// The value is no envelope.
    #[error("the value is not an envelope: {0}")]
    NotAnEnvelope(#[source] serde_json::Error),
    /// A member that must not be empty is.
    #[error("the envelope's {0} is empty")]
    Empty(&'static str),
    /// `occurredAt` is not RFC 3339.
    #[error("occurredAt is {0:?}, not an RFC 3339 timestamp")]
    OccurredAt(String),
    /// Header and envelope name different things.
    #[error("the header {header} says {said:?}, but the envelope says {is:?}")]
    Contradiction {
        /// The header.
        header: &'static str,
        /// Its value.
        said: String,
        /// The envelope's value.
        is: String,
    },
    /// A header without which a bare payload is no event.
    #[error("the header {0} is missing or empty, without which a bare payload is no event")]
    NoHeader(&'static str),
    /// The record's timestamp stands for the event's time, but there is none.
    #[error("the record has no timestamp")]
    NoTimestamp,
}
