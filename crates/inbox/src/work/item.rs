//! A record on its way through the consumer.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::SystemTime;

use event::envelope::{Envelope, Format, Headers, Payload, Record};

use crate::dead_letter::Doom;
use crate::event::Source;
use crate::failure::Failure;
use crate::order::{Attempts, Lane, Retry};

/// A record that was received and is not settled.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub lane: Lane,
    pub source: Arc<Source>,
    pub content: Content,
    /// The event's payload in the clear, or why it can never be; `None` until it is decrypted.
    pub payload: Option<Result<Payload, String>>,
    pub attempts: Attempts,
    pub first_failure: Option<SystemTime>,
    /// Why it is to become a dead letter.
    pub doom: Option<Doom>,
    /// It has become one.
    pub is_buried: bool,
    /// It is to be passed over.
    pub is_skipped: bool,
}

/// What a record holds.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Event(Arc<Envelope>),
    /// No event: only the headers are known.
    Unreadable(Headers),
}

impl Content {
    /// The event of a record, or why it is none.
    fn read(source: &Source, headers: Headers, format: Format) -> (Self, Option<Failure>) {
        let record = Record {
            key: source.key.clone(),
            value: source.value.clone(),
            timestamp_ms: source.timestamp_ms,
            headers: headers.clone(),
        };
        match Envelope::read(record, format) {
            Ok(envelope) => (Self::Event(Arc::new(envelope)), None),
            Err(error) => Self::unreadable(headers, error),
        }
    }

    fn unreadable(
        headers: Headers,
        reason: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> (Self, Option<Failure>) {
        let failure = Failure::coded("unreadable", reason);
        (Self::Unreadable(headers), Some(failure))
    }

    /// The payload of an event that is not encrypted.
    fn in_the_clear(&self) -> Option<Payload> {
        match self {
            Self::Event(event) if event.encryption().is_none() => Some(event.payload.clone()),
            Self::Event(_) | Self::Unreadable(_) => None,
        }
    }

    pub fn headers(&self) -> &Headers {
        match self {
            Self::Event(envelope) => &envelope.headers,
            Self::Unreadable(headers) => headers,
        }
    }

    /// The event's id, for logs.
    pub fn event_id(&self) -> &str {
        match self {
            Self::Event(envelope) => &envelope.event_id,
            Self::Unreadable(headers) => headers
                .text(event::envelope::EVENT_ID_HEADER)
                .unwrap_or_default(),
        }
    }
}

impl Item {
    /// Reads the event of a record. Poison is doomed from the start.
    pub fn read(
        lane: Lane,
        source: Source,
        headers: Result<Headers, &'static str>,
        format: Format,
        retry: &Retry,
    ) -> Self {
        let (content, failure) = match headers {
            Ok(headers) => Content::read(&source, headers, format),
            Err(reason) => Content::unreadable(Headers::default(), reason),
        };
        let mut item = Self {
            lane,
            source: Arc::new(source),
            payload: content.in_the_clear().map(Ok),
            content,
            attempts: Attempts::new(retry),
            first_failure: None,
            doom: None,
            is_buried: false,
            is_skipped: false,
        };
        if let Some(failure) = failure {
            item.doom(failure);
        }
        item
    }

    /// It can't be handled, which is certain without a try.
    pub fn doom(&mut self, failure: Failure) {
        self.attempts.after_verdict();
        self.doom_after_attempts(&failure);
    }

    /// It has failed for the last time.
    pub fn doom_after_attempts(&mut self, failure: &Failure) {
        self.doom = Some(Doom {
            class: failure.class(),
            reason: failure.to_string(),
            attempts: self.attempts.failed(),
            first_failure: *self.first_failure.get_or_insert_with(SystemTime::now),
        });
    }

    /// Nothing is left to be done with it but to go on behind it.
    pub fn is_passed_over(&self) -> bool {
        self.is_buried || self.is_skipped
    }
}
