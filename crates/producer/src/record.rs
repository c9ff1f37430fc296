//! One record on its way into librdkafka's queue.

use std::collections::HashMap;
use std::ffi::CString;

use crate::ffi;

/// A record to produce; headers are given beside it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// A fixed partition, or `None` for the configured partitioner.
    pub partition: Option<i32>,
    /// Key bytes.
    pub key: Option<&'a [u8]>,
    /// Value bytes; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Create time, milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: i64,
    /// What a failed delivery calls it, see [`InvalidRecord`](crate::InvalidRecord); 0 for nothing.
    pub tag: usize,
}

/// The record was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// The local queue is full: poll, then try again.
    #[error("the local queue is full")]
    QueueFull,
    /// The record can't be queued.
    #[error("record for topic {topic} is refused: {message} (code {code})")]
    Refused {
        /// The record's topic.
        topic: String,
        /// librdkafka's numeric code.
        code: i32,
        /// The message for people.
        message: String,
    },
}

/// Topic handles by name; an entry lives as long as the producer.
#[derive(Default)]
pub(crate) struct TopicCache {
    handles: HashMap<String, ffi::Topic>,
}

impl TopicCache {
    pub fn handle(
        &mut self,
        client: &ffi::Client,
        name: &str,
    ) -> Result<ffi::TopicRef, ProduceError> {
        if let Some(topic) = self.handles.get(name) {
            return Ok(topic.as_ref());
        }
        let refused = |message: &str| ProduceError::Refused {
            topic: name.to_owned(),
            code: ffi::INVALID_ARGUMENT,
            message: message.to_owned(),
        };
        let c_name = CString::new(name).map_err(|_| refused("the name holds a NUL byte"))?;
        let topic = client
            .topic(&c_name)
            .ok_or_else(|| refused("the name is not valid"))?;
        let handle = topic.as_ref();
        self.handles.insert(name.to_owned(), topic);
        Ok(handle)
    }

    /// Gives the handles back; they must not outlive the client.
    pub fn release(&mut self) {
        self.handles.clear();
    }
}

/// Hands one record to librdkafka, which copies it.
pub(crate) fn produce<'r, H>(
    client: &ffi::Client,
    topic: ffi::TopicRef,
    record: &Record<'r>,
    headers: H,
) -> Result<(), ProduceError>
where
    H: IntoIterator<Item = (&'r str, Option<&'r [u8]>)>,
{
    let mut list = ffi::Headers::new();
    for (name, value) in headers {
        list.add(name, value);
    }
    match client.produce(topic, record, list) {
        Ok(()) => Ok(()),
        Err((ffi::QUEUE_FULL, _)) => Err(ProduceError::QueueFull),
        Err((code, message)) => Err(ProduceError::Refused {
            topic: record.topic.to_owned(),
            code,
            message,
        }),
    }
}
