//! Events that are encrypted in their rows and published in the clear, on chosen topics.
//!
//! Everything else passes through, for which no key is needed.

mod keys;

use delivery::{Opened, Opener};
use envelope::{Format, Record, TopicPattern};
use event::encryption::{
    CONTENT_ENCRYPTION_HEADER, ENCRYPTED_FIELDS_HEADER, Key, Keyring, OpenError, Scope, Subject,
    open,
};
use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::{Decrypt, Pipeline};
use crate::failure::chain;

pub use keys::{Keys, read};

/// What a record in the clear must not say of itself.
const OF_ENCRYPTION: &[&str] = &[CONTENT_ENCRYPTION_HEADER, ENCRYPTED_FIELDS_HEADER];

/// Topics and keys. `Debug` shows no key.
#[derive(Clone, Debug)]
pub struct Decryption {
    topics: Vec<TopicPattern>,
    /// By table: where the payload stands in the value.
    formats: Vec<Format>,
    keys: Keyring,
}

/// The only member of an envelope that is encrypted.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    payload: &'a RawValue,
}

impl Decryption {
    /// As the pipeline is configured, with these keys.
    fn new(pipeline: &Pipeline, decrypt: &Decrypt, keys: Keyring) -> Self {
        Self {
            topics: decrypt.topics.clone(),
            formats: pipeline.tables.iter().map(|table| table.format).collect(),
            keys,
        }
    }

    /// Names of keys, and topics.
    pub fn describe(&self) -> String {
        let keys: Vec<_> = self.keys.keys().iter().map(Key::kid).collect();
        let topics: Vec<_> = self.topics.iter().map(ToString::to_string).collect();
        let (keys, topics) = (keys.join(", "), topics.join(", "));
        format!("{keys}; decrypts for {topics}")
    }

    /// The value with its payload in the clear, everything else byte for byte.
    fn value(&self, record: &Record<'_>, encryption: &[u8]) -> Result<String, OpenError> {
        let fields = record.header(ENCRYPTED_FIELDS_HEADER);
        let scope = Scope::from_headers(Some(encryption), fields)?;
        let value = std::str::from_utf8(record.value.unwrap_or_default());
        let value = value.map_err(|_| OpenError::PayloadNotJson)?;
        let payload = self.payload(record, value);
        let payload = payload.map_err(|_| OpenError::PayloadNotJson)?;
        let Some(scope) = scope else {
            return Ok(value.to_owned());
        };
        let subject = Subject {
            event_id: record.event_id,
            event_type: record.event_type,
        };
        let opened = open(&self.keys, subject, &scope, payload).now_or_never();
        let opened = opened.expect("a keyring in memory answers at once")?;
        let start = payload.get().as_ptr().addr() - value.as_ptr().addr();
        let (before, rest) = value.split_at(start);
        Ok([before, opened.get(), &rest[payload.get().len()..]].concat())
    }

    fn payload<'a>(
        &self,
        record: &Record<'_>,
        value: &'a str,
    ) -> Result<&'a RawValue, serde_json::Error> {
        let format = self.formats.get(usize::from(record.table.0));
        match format.copied().unwrap_or_default() {
            Format::Envelope => serde_json::from_str::<Body<'_>>(value).map(|body| body.payload),
            Format::Payload => serde_json::from_str(value),
        }
    }
}

impl Opener for Decryption {
    fn open(&self, record: &Record<'_>) -> Option<Result<Opened, String>> {
        let mut headers = record.headers();
        let (_, encryption) = headers.find(|(name, _)| *name == CONTENT_ENCRYPTION_HEADER)?;
        if !self.topics.iter().any(|topic| topic.matches(record.topic)) {
            return None;
        }
        let value = self.value(record, encryption.unwrap_or_default());
        let opened = value.map(|value| Opened {
            value,
            without: OF_ENCRYPTION,
        });
        Some(opened.map_err(|error| chain(&error)))
    }
}

#[cfg(test)]
mod tests;
