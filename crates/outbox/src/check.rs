//! What the relay would dead-letter is refused before it is written.

use envelope::{
    CONTENT_TYPE_HEADER, EVENT_ID_HEADER, POSITION_HEADER, RESERVED_HEADERS, TYPE_HEADER,
    TopicPolicy, TopicTemplate,
};
use serde_json::value::RawValue;

use crate::{Event, Refusal, json};

/// `event.max_bytes` of the relay, unless it is configured.
const DEFAULT_MAX_BYTES: usize = 1_000_000;

/// What an event must keep to.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub topic: TopicTemplate,
    pub topics: TopicPolicy,
    pub max_bytes: usize,
}

impl Default for Rules {
    /// Any topic that Kafka takes: what else is allowed, only the relay's configuration knows.
    fn default() -> Self {
        Self {
            topic: TopicTemplate::default(),
            topics: TopicPolicy {
                allow: "*".parse().into_iter().collect(),
                ..TopicPolicy::default()
            },
            max_bytes: DEFAULT_MAX_BYTES,
        }
    }
}

/// Headers that only the libraries set: they say how the payload is to be read.
const ENCRYPTION_HEADERS: [&str; 2] = ["content-encryption", "encrypted-fields"];

impl Rules {
    /// What is wrong with an event before its payload is looked at.
    pub fn check(&self, event: &Event) -> Result<(), Refusal> {
        if event.event_type.is_empty() {
            return Err(Refusal::EmptyType);
        }
        if let Some(topic) = self.topic.topic_of(&event.event_type) {
            self.topics
                .check(&topic)
                .map_err(|refusal| Refusal::Topic { topic, refusal })?;
        }
        let transfer_id = event.transfer_id.as_deref().unwrap_or_default();
        if event.event_type.contains('\0') || transfer_id.contains('\0') {
            return Err(Refusal::Nul);
        }
        for (name, _) in &event.headers {
            let name = name.as_str();
            let is_taken = RESERVED_HEADERS.contains(&name) || ENCRYPTION_HEADERS.contains(&name);
            if name.is_empty() || is_taken {
                return Err(Refusal::Header { name: name.into() });
            }
        }
        Ok(())
    }

    /// What is wrong with an event as it would be written.
    pub fn check_written(
        &self,
        event: &Event,
        payload: &RawValue,
        headers: Option<&str>,
    ) -> Result<(), Refusal> {
        let payload = json::measure(payload.get());
        if payload.has_nul || headers.is_some_and(|json| json::measure(json).has_nul) {
            return Err(Refusal::Nul);
        }
        let bytes = record_bytes(event, payload.bytes);
        match bytes > self.max_bytes {
            true => Err(Refusal::TooLarge {
                bytes,
                max_bytes: self.max_bytes,
            }),
            false => Ok(()),
        }
    }
}

/// An envelope with empty values, the time of a `timestamptz` in the place of `occurredAt`.
const ENVELOPE: &str = r#"{"eventId":"","type":"","occurredAt":"2026-01-01T00:00:00.000000Z","transferId":"","payload":}"#;
/// The values of the headers `content-type` and `position`.
const HEADER_VALUES: [&str; 2] = ["application/json", "FFFFFFFF/FFFFFFFF:0000"];
/// A uuid in its text form.
const ID_BYTES: usize = 36;

/// About what the relay counts for the record (`Record::bytes`): key, value and headers.
fn record_bytes(event: &Event, payload_bytes: usize) -> usize {
    let event_type = event.event_type.len();
    let transfer_id = event.transfer_id.as_ref().map_or(0, String::len);
    let key = event.transfer_id.as_ref().map_or(ID_BYTES, String::len);
    let value = ENVELOPE.len() + ID_BYTES + event_type + transfer_id + payload_bytes;
    let names = [
        EVENT_ID_HEADER,
        TYPE_HEADER,
        CONTENT_TYPE_HEADER,
        POSITION_HEADER,
    ];
    let reserved = names.map(str::len).iter().sum::<usize>()
        + HEADER_VALUES.map(str::len).iter().sum::<usize>()
        + ID_BYTES
        + event_type;
    let own = event.headers.iter().map(|(name, value)| {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string().len(), str::len);
        name.len() + value
    });
    key + value + reserved + own.sum::<usize>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::event::Payload;

    fn check(rules: &Rules, event: Event) -> Result<(), String> {
        let Payload::Json(payload) = &event.payload else {
            panic!("no payload");
        };
        let headers = serde_json::Map::from_iter(event.headers.clone());
        let headers = serde_json::to_string(&headers).unwrap();
        rules
            .check(&event)
            .and_then(|()| rules.check_written(&event, payload, Some(&headers)))
            .map_err(|refusal| refusal.to_string())
    }

    fn event(event_type: &'static str) -> Event {
        Event::new(event_type).transfer_id("t").payload(&())
    }

    #[track_caller]
    fn refused(event: Event, expected: &str) {
        let error = check(&Rules::default(), event).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_the_relay_publishes_passes() {
        let rules = Rules::default();
        assert_eq!(check(&rules, event("transfers.settled")), Ok(()));
        assert_eq!(check(&rules, event("a").header("tenant", "acme")), Ok(()));
    }

    #[test]
    fn types_that_name_no_topic_are_refused() {
        refused(event(""), "type is empty");
        refused(event("a b"), "no topic can have this name");
        refused(event(".."), "no topic can have this name");
        refused(event("__a"), "Kafka's own");
        let long: &'static str = Box::leak("a".repeat(250).into_boxed_str());
        refused(event(long), "no topic can have this name");
    }

    #[test]
    fn the_relays_template_and_patterns_are_followed() {
        let rules = Rules {
            topic: "{type.domain}".parse().unwrap(),
            topics: TopicPolicy {
                allow: vec!["transfers".parse().unwrap()],
                ..TopicPolicy::default()
            },
            ..Rules::default()
        };
        assert_eq!(check(&rules, event("transfers.any thing")), Ok(()));
        let error = check(&rules, event("ledger.posted")).unwrap_err();
        assert!(
            error.contains("\"ledger\"") && error.contains("topics.allow"),
            "{error}"
        );
        let by_column = Rules {
            topic: "{tenant}".parse().unwrap(),
            ..rules
        };
        assert_eq!(check(&by_column, event("any thing")), Ok(()));
    }

    #[test]
    fn headers_of_the_relay_and_of_encryption_can_not_be_set() {
        for name in [
            "",
            "eventId",
            "position",
            "content-encryption",
            "encrypted-fields",
        ] {
            refused(event("a").header(name, "x"), "can't be set");
        }
    }

    #[test]
    fn what_postgres_can_not_store_is_refused() {
        refused(event("a").payload("x\0"), "U+0000");
        refused(event("a").transfer_id("\0"), "U+0000");
        refused(event("a").header("h", "\0"), "U+0000");
        refused(event("a").header("\0", "h"), "U+0000");
    }

    #[test]
    fn a_record_of_the_largest_size_passes_and_a_larger_one_does_not() {
        let of = |bytes: usize| event("a").payload(&"x".repeat(bytes));
        let empty = record_bytes(&of(0), 2);
        let largest = DEFAULT_MAX_BYTES - empty;
        assert_eq!(check(&Rules::default(), of(largest)), Ok(()));
        refused(of(largest + 1), "1000001 bytes");
    }
}
