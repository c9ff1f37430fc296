//! `outboxd tail`: follows topics, and shows of each event what it is and how long it took.

use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use envelope::dead_letter::Found;
use envelope::rfc3339::parse;
use envelope::{EVENT_ID_HEADER, POSITION_HEADER, TYPE_HEADER, TopicPattern};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{Exit, Settings, one_pipeline};
use crate::config::{Pipeline, is_timestamp};
use crate::failure::Failure;
use crate::sink::{Committed, Look};
use crate::topics::Topics;

/// New topics and partitions are looked for so often.
const LOOK_FOR_TOPICS: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct TailArgs {
    #[command(flatten)]
    settings: Settings,
    /// The pipeline, where there are several.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Follow topics of this name, where * stands for any characters; may be repeated. By default all
    /// that routing may use, and the dead-letter topics.
    #[arg(long, value_name = "PATTERN")]
    topic: Vec<TopicPattern>,
    /// Only events of this type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only events with this transfer id.
    #[arg(long, value_name = "ID")]
    transfer_id: Option<String>,
    /// Only the event with this id.
    #[arg(long, value_name = "ID")]
    event_id: Option<String>,
    /// Where to begin: beginning, end, or records of a time.
    #[arg(long, value_name = "beginning|end|TIMESTAMP", default_value = "end", value_parser = start)]
    from: Start,
    /// End after so many events.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Show payloads, too.
    #[arg(long)]
    payload: bool,
    /// Print one JSON document a line.
    #[arg(long)]
    json: bool,
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    Beginning,
    End,
    At(i64),
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "beginning" => Ok(Start::Beginning),
        "end" => Ok(Start::End),
        time => {
            let wrong =
                || "write beginning, end, or a timestamp as 2026-01-31T10:00:00Z".to_owned();
            let at = is_timestamp(time).then(|| instant_ms(time)).flatten();
            at.map(Start::At).ok_or_else(wrong)
        }
    }
}

/// Milliseconds since 1970.
fn instant_ms(text: &str) -> Option<i64> {
    let midnight = format!("{text} 00:00:00");
    let read = parse(text).or_else(|_| parse(&midnight));
    Some(read.ok()?.unix_micros().div_euclid(1000))
}

pub(super) fn tail(args: &TailArgs) -> Result<(), Exit> {
    let config = args.settings.load()?;
    let pipeline = one_pipeline(&config, args.pipeline.as_deref())?;
    let mut tail = Tail {
        args,
        pipeline,
        followed: Vec::new(),
        shown: 0,
    };
    tail.run().map_err(|failure| {
        Problem::from(failure).report();
        Exit::Failure
    })
}

type Place = (String, i32);

struct Tail<'a> {
    args: &'a TailArgs,
    pipeline: &'a Pipeline,
    followed: Vec<Place>,
    shown: u64,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    More,
    Done,
}

impl Tail<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let attempt = "following the topics".to_owned();
        let at_once = [("fetch.wait.max.ms", "50")];
        let committed = Committed::open(self.pipeline, "outboxd-tail", &at_once, attempt)?;
        self.followed = self.places(&committed)?;
        self.require_topics()?;
        let from = self.starts(&committed)?;
        committed.assign(&from)?;
        let mut looked = Instant::now();
        loop {
            if let Look::Record(message) = committed.look()?
                && self.show(&message) == Next::Done
            {
                return Ok(());
            }
            if looked.elapsed() > LOOK_FOR_TOPICS {
                self.follow_new(&committed)?;
                looked = Instant::now();
            }
        }
    }

    fn require_topics(&self) -> Result<(), Failure> {
        match self.followed.is_empty() {
            true => Err(Failure::new("topic-missing", "there is no topic to follow")),
            false => Ok(()),
        }
    }

    fn places(&self, committed: &Committed) -> Result<Vec<Place>, Failure> {
        let patterns = &self.args.topic;
        committed.partitions(|name| match patterns.as_slice() {
            [] => Topics::All.has(self.pipeline, name),
            patterns => patterns.iter().any(|pattern| pattern.matches(name)),
        })
    }

    fn starts(&self, committed: &Committed) -> Result<TopicPartitionList, Failure> {
        match self.args.from {
            Start::Beginning => committed.list(&self.followed, Offset::Beginning),
            Start::End => committed.list(&self.followed, Offset::End),
            Start::At(millis) => committed.at_time(&self.followed, millis),
        }
    }

    /// What was made since then is followed from its beginning; the others go on where they are.
    fn follow_new(&mut self, committed: &Committed) -> Result<(), Failure> {
        let all = self.places(committed)?;
        let new = all.iter().filter(|place| !self.followed.contains(*place));
        let new: Vec<Place> = new.cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        committed.follow(&committed.list(&new, Offset::Beginning)?)?;
        self.followed.extend(new);
        Ok(())
    }

    fn show(&mut self, message: &BorrowedMessage<'_>) -> Next {
        let Some(event) = Event::read(message) else {
            return Next::More;
        };
        if !event.is_wanted(self.args) {
            return Next::More;
        }
        let payload = self.args.payload.then(|| message.payload());
        let line = match self.args.json {
            true => event.document(payload).to_string(),
            false => event.line(payload),
        };
        // Whoever reads may have had enough.
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            return Next::Done;
        }
        self.shown += 1;
        match self.args.limit {
            Some(limit) if self.shown >= limit => Next::Done,
            Some(_) | None => Next::More,
        }
    }
}

/// An event as it is shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
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
    fn read(message: &BorrowedMessage<'_>) -> Option<Self> {
        let headers: Vec<_> = message
            .headers()?
            .iter()
            .map(|h| (h.key, h.value))
            .collect();
        let text = |name: &str| {
            let found = headers.iter().find(|(found, _)| *found == name)?;
            std::str::from_utf8(found.1?).ok().map(str::to_owned)
        };
        let dead = match Found::read(&headers) {
            Some(Found::Resolution { .. }) => return None,
            Some(Found::Entry(entry)) => Some(entry.class.to_owned()),
            None => None,
        };
        let value = message.payload().unwrap_or_default();
        let envelope: Option<Envelope> = serde_json::from_slice(value).ok();
        let (occurred_at, transfer_id) =
            envelope.map_or((None, None), |e| (e.occurred_at, e.transfer_id));
        let at_ms = message.timestamp().to_millis().unwrap_or(0);
        let position = text(POSITION_HEADER).unwrap_or_default();
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
            replay: text("replay").filter(|_| position.starts_with("0/0:")),
            position,
            bytes: value.len(),
            dead,
        })
    }

    fn is_wanted(&self, args: &TailArgs) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        // Without an envelope the key is the transfer id, unless another column is.
        let transfer = self.transfer_id.as_deref().or(self.key.as_deref());
        is(&args.event_type, Some(&self.event_type))
            && is(&args.event_id, Some(&self.event_id))
            && is(&args.transfer_id, transfer)
    }

    fn document(&self, payload: Option<Option<&[u8]>>) -> Value {
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

    fn line(&self, payload: Option<Option<&[u8]>>) -> String {
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

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
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
    fn it_begins_where_it_is_told() {
        assert_eq!(start("end").unwrap(), Start::End);
        assert_eq!(start("beginning").unwrap(), Start::Beginning);
        for (text, expected) in [
            ("1970-01-01T00:00:01Z", 1_000),
            ("1970-01-01 00:00:01.5+00", 1_500),
            ("1970-01-02", 86_400_000),
        ] {
            assert_eq!(start(text).unwrap(), Start::At(expected), "{text}");
        }
        assert!(start("yesterday").is_err() && start("2026-13-77").is_err());
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
