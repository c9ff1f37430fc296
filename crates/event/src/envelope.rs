//! An event as a consumer sees it.
//!
//! ```text
//! Record { key, value, timestamp, headers } ──Envelope::read──► eventId, type, occurredAt,
//!                                                               transferId, payload
//! ```

mod body;
mod error;
mod headers;
mod payload;

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;

pub use envelope::{CONTENT_TYPE_HEADER, EVENT_ID_HEADER, Format, POSITION_HEADER, TYPE_HEADER};
pub use error::ReadError;
pub use headers::Headers;
pub use payload::Payload;

/// Header with the W3C trace context of the transaction that wrote the event.
pub const TRACEPARENT_HEADER: &str = "traceparent";
/// Header that says how the payload, or a part of it, is encrypted.
pub const CONTENT_ENCRYPTION_HEADER: &str = "content-encryption";
/// Header with the fields that are encrypted, as a JSON array; without it, the whole payload is.
pub const ENCRYPTED_FIELDS_HEADER: &str = "encrypted-fields";
/// The one known value of [`CONTENT_ENCRYPTION_HEADER`].
pub const JWE: &str = "jwe";

/// A Kafka record, as far as an event is made of it. Its [`Debug`](fmt::Debug) shows no content.
#[derive(Clone, Default)]
pub struct Record {
    /// Key.
    pub key: Option<Bytes>,
    /// Value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Timestamp in milliseconds since 1970-01-01 UTC: when the event's transaction committed.
    pub timestamp_ms: Option<i64>,
    /// Headers, in order.
    pub headers: Headers,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("bytes", &self.value.as_ref().map(Bytes::len))
            .field("timestamp_ms", &self.timestamp_ms)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The event's id, never empty. An event that is delivered again has the same one.
    pub event_id: String,
    /// The event's type, never empty.
    pub event_type: String,
    /// When it happened, as the service that wrote it says.
    pub occurred_at: SystemTime,
    /// What the event is about; events with the same one keep their order.
    pub transfer_id: Option<String>,
    /// The payload, as the service wrote it.
    pub payload: Payload,
    /// The record's headers.
    pub headers: Headers,
}

impl Envelope {
    /// Reads an event from a record whose value has that format.
    ///
    /// ```
    /// use event::envelope::{Envelope, Format, Record};
    ///
    /// let value = br#"{"eventId":"0198-1","type":"transfers.settled",
    ///     "occurredAt":"2026-11-23T10:51:19.123456Z","transferId":"tr-1","payload":{"amount_cents":1250}}"#;
    /// let record = Record {
    ///     value: Some(value[..].into()),
    ///     ..Record::default()
    /// };
    /// let event = Envelope::read(record, Format::Envelope)?;
    /// assert_eq!(event.transfer_id.as_deref(), Some("tr-1"));
    /// let payload: serde_json::Value = event.payload.parse()?;
    /// assert_eq!(payload["amount_cents"], 1250);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`Format::Envelope`] takes everything from the value; headers that say otherwise are an
    /// error. [`Format::Payload`] takes id and type from the headers, the record's timestamp for the
    /// event time, and its key for the transfer id, unless the key is the event id.
    ///
    /// # Errors
    /// The record is none that the relay writes. The verdict is certain: it fails again.
    pub fn read(record: Record, format: Format) -> Result<Self, ReadError> {
        match format {
            Format::Envelope => body::read(record),
            Format::Payload => bare(record),
        }
    }

    /// How the payload is encrypted, if it is. Whatever the header holds, a record that has it is
    /// encrypted.
    pub fn encryption(&self) -> Option<&[u8]> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(name, _)| *name == CONTENT_ENCRYPTION_HEADER)?;
        Some(value.map_or(&[], |value| &value[..]))
    }

    /// The trace context of the transaction that wrote the event.
    pub fn traceparent(&self) -> Option<&str> {
        self.headers.text(TRACEPARENT_HEADER)
    }

    /// Its change's place in the WAL of its database, as in `0/16B3748:3`.
    pub fn position(&self) -> Option<&str> {
        self.headers.text(POSITION_HEADER)
    }
}

fn bare(record: Record) -> Result<Envelope, ReadError> {
    let required = |name| match record.headers.text(name) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(ReadError::NoHeader(name)),
    };
    let event_id = required(EVENT_ID_HEADER)?;
    let event_type = required(TYPE_HEADER)?;
    let key = record.key.as_deref();
    let transfer_id = key.and_then(|key| std::str::from_utf8(key).ok());
    let transfer_id = transfer_id.filter(|key| *key != event_id);
    let is_json = record.headers.text(CONTENT_TYPE_HEADER) != Some("application/octet-stream");
    let payload = match record.value {
        None => Payload::Absent,
        Some(value) if is_json => Payload::Json(value),
        Some(value) => Payload::Binary(value),
    };
    Ok(Envelope {
        occurred_at: body::instant_of_record(record.timestamp_ms)?,
        transfer_id: transfer_id.map(str::to_owned),
        event_id,
        event_type,
        payload,
        headers: record.headers,
    })
}

#[cfg(test)]
mod tests;
