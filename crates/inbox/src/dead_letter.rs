//! Events that can't be handled, to their topic.
//!
//! A dead letter has the event's key, value and headers, then headers that say why, under the names
//! that the relay uses (`envelope::dead_letter`): one tool reads both.

use std::time::{Duration, SystemTime};

use envelope::dead_letter as names;
use event::envelope::{EVENT_ID_HEADER, Headers, POSITION_HEADER};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::event::Source;

/// Header with the partition and offset that the event was read at.
const OFFSET: &str = "dead-letter.offset";
/// Header with the timestamp of the event's record, in milliseconds since 1970-01-01 UTC. The dead
/// letter has its own, by which its topic keeps it.
const TIMESTAMP: &str = "dead-letter.timestamp";

/// Why an event can't be handled.
#[derive(Clone, Debug)]
pub(crate) struct Doom {
    pub class: &'static str,
    pub reason: String,
    pub attempts: u32,
    pub first_failure: SystemTime,
}

/// Writes dead letters. Each is durable when `send` returns.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    pub producer: FutureProducer,
    pub topic: String,
    pub consumer: String,
}

impl DeadLetters {
    /// Writes one. Where even the dead-letter topic can't take the event, a stub says where it is.
    pub async fn send(
        &self,
        source: &Source,
        headers: &Headers,
        doom: &Doom,
    ) -> Result<(), KafkaError> {
        let value = source.value.as_deref();
        let sent = self
            .produce(source, value, self.headers(source, headers, doom, false))
            .await;
        match sent {
            Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)) => {
                let stub = stub(source, headers);
                let headers = self.headers(source, &Headers::default(), doom, true);
                self.produce(source, Some(stub.as_bytes()), headers).await
            }
            sent => sent,
        }
    }

    async fn produce(
        &self,
        source: &Source,
        value: Option<&[u8]>,
        headers: OwnedHeaders,
    ) -> Result<(), KafkaError> {
        let record = FutureRecord::<[u8], [u8]> {
            topic: &self.topic,
            partition: None,
            payload: value,
            key: source.key.as_deref(),
            timestamp: None,
            headers: Some(headers),
        };
        let sent = self.producer.send(record, Duration::ZERO).await;
        sent.map(|_| ()).map_err(|(error, _)| error)
    }

    fn headers(&self, source: &Source, own: &Headers, doom: &Doom, is_stub: bool) -> OwnedHeaders {
        let mut headers = OwnedHeaders::new_with_capacity(own.len() + 13);
        for (key, value) in own.iter() {
            let value = value.map(|value| &value[..]);
            headers = headers.insert(Header { key, value });
        }
        let attempts = doom.attempts.to_string();
        let timestamp = source.timestamp_ms.map(|ms| ms.to_string());
        let count = own.len().to_string();
        let place = format!("{}:{}", source.partition, source.offset);
        let first = rfc3339(doom.first_failure);
        let last = rfc3339(SystemTime::now());
        let ours = [
            (names::REASON, Some(doom.reason.as_str())),
            (names::CLASS, Some(doom.class)),
            (names::ATTEMPTS, Some(&attempts)),
            (names::SERVICE, Some(&self.consumer)),
            (names::POSITION, own.text(POSITION_HEADER)),
            (names::TOPIC, Some(&source.topic)),
            (OFFSET, Some(&place)),
            (TIMESTAMP, timestamp.as_deref()),
            (names::FIRST_FAILURE, Some(&first)),
            (names::LAST_FAILURE, Some(&last)),
            (names::STUB, is_stub.then_some("true")),
            (names::HEADERS, Some(&count)),
        ];
        for (key, value) in ours {
            if let Some(value) = value {
                headers = headers.insert(Header {
                    key,
                    value: Some(value),
                });
            }
        }
        headers
    }
}

fn stub(source: &Source, headers: &Headers) -> String {
    serde_json::json!({
        "eventId": headers.text(EVENT_ID_HEADER),
        "size": source.value.as_ref().map_or(0, |value| value.len()),
        "topic": &*source.topic,
        "partition": source.partition,
        "offset": source.offset,
    })
    .to_string()
}

fn rfc3339(instant: SystemTime) -> String {
    let instant = jiff::Timestamp::try_from(instant).unwrap_or_default();
    format!("{instant:.6}")
}
