//! An event as `tail` shows it.

use envelope::dead_letter::Found;
use envelope::{EVENT_ID_HEADER, POSITION_HEADER, TYPE_HEADER, published_again};
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use serde::Deserialize;
use serde_json::{Value, json};

use super::TailArgs;
use crate::telemetry::now_ms;
use crate::topics;

/// An event as it is shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    place: String,
    at_ms: i64,
    latency_ms: i64,
    event_id: String,
    event_type: String,
    transfer_id: Option<String>,
    occurred_at: Option<String>,
    key: Option<String>,
    position: String,
    bytes: usize,
    replay: Option<String>,
    dead: Option<String>,
}

/// What an envelope says beside the payload, which is not looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    occurred_at: Option<String>,
    transfer_id: Option<String>,
}

impl Event {
    /// `None` if it is no event: somebody else's record, or what has become of a dead letter.
    pub fn read(message: &BorrowedMessage<'_>) -> Option<Self> {
        let headers = topics::headers(message);
        let (dead, headers) = match Found::read(&headers) {
            Some(Found::Resolution { .. }) => return None,
            Some(Found::Entry(entry)) => (Some(entry.class.to_owned()), entry.headers),
            None => (None, headers),
        };
        let text = |name: &str| topics::text(&headers, name).map(str::to_owned);
        let value = message.payload().unwrap_or_default();
        let envelope: Option<Envelope> = serde_json::from_slice(value).ok();
        let (occurred_at, transfer_id) =
            envelope.map_or((None, None), |e| (e.occurred_at, e.transfer_id));
        let at_ms = message.timestamp().to_millis().unwrap_or(0);
        let position = text(POSITION_HEADER).unwrap_or_default();
        let (_, replay) = published_again(&headers, &position);
        Some(Self {
            place: format!(
                "{}/{}:{}",
                message.topic(),
                message.partition(),
                message.offset()
            ),
            at_ms,
            latency_ms: now_ms().saturating_sub(at_ms),
            event_id: text(EVENT_ID_HEADER)?,
            event_type: text(TYPE_HEADER).unwrap_or_default(),
            transfer_id,
            occurred_at,
            key: message
                .key()
                .map(|key| String::from_utf8_lossy(key).into_owned()),
            replay: replay.map(str::to_owned),
            position,
            bytes: value.len(),
            dead,
        })
    }

    pub fn is_wanted(&self, args: &TailArgs) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        // Without an envelope the key is the transfer id, unless another column is.
        let transfer = self.transfer_id.as_deref().or(self.key.as_deref());
        is(&args.event_type, Some(&self.event_type))
            && is(&args.event_id, Some(&self.event_id))
            && is(&args.transfer_id, transfer)
    }

    pub fn document(&self, payload: Option<Option<&[u8]>>) -> Value {
        let mut document = json!({
            "place": self.place,
            "at": crate::trace::time(self.at_ms),
            "latency_ms": self.latency_ms,
            "event_id": self.event_id,
            "type": self.event_type,
            "transfer_id": self.transfer_id,
            "occurred_at": self.occurred_at,
            "key": self.key,
            "position": self.position,
            "bytes": self.bytes,
            "replay": self.replay,
            "dead_letter": self.dead,
        });
        if let Some(value) = payload {
            document["value"] = json!(value.map(String::from_utf8_lossy));
        }
        document
    }

    pub fn line(&self, payload: Option<Option<&[u8]>>) -> String {
        let shown = |text: &Option<String>| match text {
            Some(text) => text.escape_debug().to_string(),
            None => "-".to_owned(),
        };
        let mut line = format!(
            "{}  {}  {:>8}  {}  {}  transfer {}  {} B",
            crate::trace::time(self.at_ms),
            self.place,
            latency(self.latency_ms),
            self.event_type.escape_debug(),
            self.event_id.escape_debug(),
            shown(&self.transfer_id),
            self.bytes,
        );
        if let Some(request) = &self.replay {
            line.push_str(&format!("  replay {}", request.escape_debug()));
        }
        if let Some(class) = &self.dead {
            line.push_str(&format!("  DEAD {}", class.escape_debug()));
        }
        if let Some(value) = payload {
            let value = value.map(String::from_utf8_lossy).unwrap_or_default();
            line.push_str(&format!("  {}", value.escape_debug()));
        }
        line
    }
}

/// From the record's time, which is that of the commit, to now.
fn latency(millis: i64) -> String {
    match millis {
        ..10_000 => format!("{millis} ms"),
        10_000..600_000 => format!("{} s", millis / 1000),
        600_000.. => format!("{} min", millis / 60_000),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(clap::Parser)]
    struct Given {
        #[command(flatten)]
        args: TailArgs,
    }

    fn args(given: &[&str]) -> TailArgs {
        let given = [&["tail"], given].concat();
        <Given as clap::Parser>::try_parse_from(given).unwrap().args
    }

    fn event() -> Event {
        Event {
            place: "t/0:7".into(),
            event_id: "e1".into(),
            event_type: "transfers.settled".into(),
            key: Some("k".into()),
            bytes: 3,
            ..Event::default()
        }
    }

    #[test]
    fn what_is_asked_for_must_all_hold() {
        let wanted = |given: &[&str]| event().is_wanted(&args(given));
        assert!(wanted(&[]));
        assert!(wanted(&["--type", "transfers.settled", "--event-id", "e1"]));
        assert!(!wanted(&[
            "--type",
            "transfers.settled",
            "--event-id",
            "e2"
        ]));
        assert!(
            wanted(&["--transfer-id", "k"]),
            "the key, without an envelope"
        );
        assert!(!wanted(&["--transfer-id", "other"]));
        let enveloped = Event {
            transfer_id: Some("t".into()),
            ..event()
        };
        assert!(!enveloped.is_wanted(&args(&["--transfer-id", "k"])));
    }

    #[test]
    fn a_payload_is_shown_only_if_it_is_asked_for() {
        let value = Some(&b"secret"[..]);
        assert!(!event().line(None).contains("secret"));
        assert!(event().line(Some(value)).ends_with("secret"));
        assert_eq!(event().document(None).get("value"), None);
        assert_eq!(event().document(Some(value))["value"], "secret");
        assert_eq!(event().document(Some(None))["value"], Value::Null);
    }

    #[test]
    fn latencies_are_read_at_a_glance() {
        assert_eq!(latency(12), "12 ms");
        assert_eq!(latency(12_345), "12 s");
        assert_eq!(latency(3_600_000), "60 min");
    }
}
