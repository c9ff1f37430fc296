//! An event as a handler gets it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use event::envelope::{Envelope, Headers, Payload};
use tracing::Span;

/// An event, with its payload as a value of type `T`.
#[derive(Debug)]
pub struct Event<T> {
    /// The payload.
    pub payload: T,
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) source: Arc<Source>,
    pub(crate) attempt: u32,
}

impl<T> Event<T> {
    /// The event's id. An event that is delivered again has the same one.
    pub fn id(&self) -> &str {
        &self.envelope.event_id
    }

    /// The event's type.
    pub fn event_type(&self) -> &str {
        &self.envelope.event_type
    }

    /// When it happened.
    pub fn occurred_at(&self) -> SystemTime {
        self.envelope.occurred_at
    }

    /// What the event is about; events with the same one keep their order.
    pub fn transfer_id(&self) -> Option<&str> {
        self.envelope.transfer_id.as_deref()
    }

    /// The record's headers.
    pub fn headers(&self) -> &Headers {
        &self.envelope.headers
    }

    /// The record that it came in.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// 1 when the event is tried for the first time.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// A record of a topic.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Timestamp in milliseconds since 1970-01-01 UTC, if it has one.
    pub timestamp_ms: Option<i64>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
}

impl Source {
    /// What it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        size(&self.key) + size(&self.value)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}] @ {}", self.topic, self.partition, self.offset)
    }
}

/// An event with its payload in the clear, before it is given its type.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub envelope: Arc<Envelope>,
    pub source: Arc<Source>,
    pub payload: Payload,
    pub attempt: u32,
    pub span: Span,
}

impl Opened {
    pub fn with<T>(&self, payload: T) -> Event<T> {
        Event {
            payload,
            envelope: Arc::clone(&self.envelope),
            source: Arc::clone(&self.source),
            attempt: self.attempt,
        }
    }
}
