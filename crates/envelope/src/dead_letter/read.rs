//! A dead letter, or what has become of one, is read.

use super::{
    ATTEMPTS, CLASS, FIRST_FAILURE, HEADERS, KEY_SHA256, LAST_FAILURE, ORIGIN, POSITION, REASON,
    REQUEST, RESOLUTION, RESOLVES, ROW_ID, SERVICE, STUB, TABLE, TOPIC, UNMAPPABLE,
};
use crate::record::Record;

/// An entry of a dead-letter topic, or the resolution of one, as a reader finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// An event that could not be published.
    Entry(Box<Entry<'a>>),
    /// What has become of an entry.
    Resolution {
        /// Partition of the entry.
        partition: i32,
        /// Offset of the entry.
        offset: i64,
        /// `replayed` or `dropped`.
        resolution: &'a str,
        /// The request that did it.
        request: &'a str,
    },
}

/// An event that could not be published. What a header does not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    /// See [`REASON`].
    pub reason: &'a str,
    /// See [`CLASS`].
    pub class: &'a str,
    /// See [`ATTEMPTS`].
    pub attempts: u32,
    /// See [`SERVICE`].
    pub service: &'a str,
    /// See [`TABLE`].
    pub table: &'a str,
    /// See [`ROW_ID`].
    pub row_id: &'a str,
    /// See [`POSITION`].
    pub position: &'a str,
    /// See [`TOPIC`].
    pub topic: &'a str,
    /// See [`FIRST_FAILURE`].
    pub first_failure: &'a str,
    /// See [`LAST_FAILURE`].
    pub last_failure: &'a str,
    /// See [`REQUEST`].
    pub request: &'a str,
    /// See [`ORIGIN`]; `None` if this is the first one.
    pub origin: Option<(i32, i64)>,
    /// See [`STUB`].
    pub is_stub: bool,
    /// See [`KEY_SHA256`].
    pub key_sha256: &'a str,
    /// The event's own headers.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl<'a> Entry<'a> {
    /// The value of one of the event's own headers.
    pub fn header(&self, name: &str) -> &'a str {
        text_of(&self.headers, name)
    }

    /// Whether key, value and headers are those of the event, so that it can be published. A stub only
    /// describes it, and of a row that could not be mapped only parts are there.
    pub fn is_event(&self) -> bool {
        !self.is_stub && !self.class.starts_with(UNMAPPABLE) && !self.topic.is_empty()
    }
}

impl<'a> Found<'a> {
    /// What the headers of a record say; `None` if it is not one of ours.
    pub fn read(headers: &[(&'a str, Option<&'a [u8]>)]) -> Option<Self> {
        // Every entry ends with it, whatever the event's own headers are called.
        if headers.last().is_none_or(|(name, _)| *name != HEADERS) {
            let (partition, offset) = place(text_of(headers, RESOLVES))?;
            return Some(Self::Resolution {
                partition,
                offset,
                resolution: text_of(headers, RESOLUTION),
                request: text_of(headers, REQUEST),
            });
        }
        let own: usize = text_of(headers, HEADERS).parse().ok()?;
        let (event, ours) = headers.split_at_checked(own)?;
        Some(Self::Entry(Box::new(Entry {
            reason: text_of(ours, REASON),
            class: text_of(ours, CLASS),
            attempts: text_of(ours, ATTEMPTS).parse().unwrap_or(1),
            service: text_of(ours, SERVICE),
            table: text_of(ours, TABLE),
            row_id: text_of(ours, ROW_ID),
            position: text_of(ours, POSITION),
            topic: text_of(ours, TOPIC),
            first_failure: text_of(ours, FIRST_FAILURE),
            last_failure: text_of(ours, LAST_FAILURE),
            request: text_of(ours, REQUEST),
            origin: place(text_of(ours, ORIGIN)),
            is_stub: text_of(ours, STUB) == "true",
            key_sha256: text_of(ours, KEY_SHA256),
            headers: event.to_vec(),
        })))
    }
}

/// Partition and offset, as `partition:offset`.
fn place(text: &str) -> Option<(i32, i64)> {
    let (partition, offset) = text.split_once(':')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

/// What a dead letter says under one of the names above; empty if it does not.
pub fn text<'a>(record: &Record<'a>, name: &str) -> &'a str {
    // The last one: the event's own headers come first.
    let named = record.headers().filter(|(found, _)| *found == name);
    let value = named.last().and_then(|(_, value)| value);
    std::str::from_utf8(value.unwrap_or_default()).unwrap_or_default()
}

/// The last header of that name, as text; empty if there is none.
fn text_of<'a>(headers: &[(&'a str, Option<&'a [u8]>)], name: &str) -> &'a str {
    let found = headers.iter().rev().find(|(found, _)| *found == name);
    let value = found.and_then(|(_, value)| *value).unwrap_or_default();
    std::str::from_utf8(value).unwrap_or_default()
}
