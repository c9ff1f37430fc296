//! What dead-letter and event topics hold, for scenarios of events that can't be published.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, ensure};
use envelope::dead_letter::Found;
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use serde_json::Value;

use crate::reader::Reader;
use crate::stage::{DEAD_LETTERS, Stage};

/// An entry of the dead-letter topic.
#[derive(Debug, Clone)]
pub struct Letter {
    /// `topic/partition:offset`.
    pub place: String,
    /// The event's id.
    pub id: String,
    /// Why it is there.
    pub class: String,
    /// The request that put it there again.
    pub request: String,
    /// Record key and value.
    pub record: (String, String),
    /// Whether the value only describes the event.
    pub is_stub: bool,
    /// How often publishing was tried.
    pub attempts: u32,
    /// What became of it, and by which request, as often as that was said.
    pub resolutions: Vec<(String, String)>,
}

/// All entries, in order, with what became of them.
pub fn letters(stage: &Stage) -> Result<Vec<Letter>> {
    let mut letters: Vec<Letter> = Vec::new();
    let mut places: HashMap<(i32, i64), usize> = HashMap::new();
    Reader::open(&stage.bootstrap(), &[DEAD_LETTERS])?.drain_records(|message| {
        let headers = message.headers().context("a letter without headers")?;
        let headers: Vec<_> = headers.iter().map(|h| (h.key, h.value)).collect();
        match Found::read(&headers).context("not a dead letter")? {
            Found::Entry(entry) => {
                places.insert((message.partition(), message.offset()), letters.len());
                let place = (message.topic(), message.partition(), message.offset());
                letters.push(Letter {
                    place: format!("{}/{}:{}", place.0, place.1, place.2),
                    id: entry.row_id.to_owned(),
                    class: entry.class.to_owned(),
                    request: entry.request.to_owned(),
                    record: record(message),
                    is_stub: entry.is_stub,
                    attempts: entry.attempts,
                    resolutions: Vec::new(),
                });
            }
            Found::Resolution {
                partition,
                offset,
                resolution,
                request,
            } => {
                let resolved = places.get(&(partition, offset));
                let letter = resolved.and_then(|index| letters.get_mut(*index));
                let letter = letter.context("a resolution of nothing")?;
                letter
                    .resolutions
                    .push((resolution.to_owned(), request.to_owned()));
            }
        }
        Ok(())
    })?;
    Ok(letters)
}

fn record(message: &BorrowedMessage<'_>) -> (String, String) {
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    (text(message.key()), text(message.payload()))
}

/// Requires that event topics hold exactly these events, once each, and in the order of the number
/// `n` in their payloads, per partition and key.
pub fn require_published(stage: &Stage, topics: &[&str], expected: &HashSet<String>) -> Result<()> {
    let mut seen: HashSet<String> = HashSet::new();
    let mut newest: HashMap<(String, i32, String), i64> = HashMap::new();
    let mut faults = Vec::new();
    Reader::open(&stage.bootstrap(), topics)?.drain(|event| {
        let place = format!("{}/{}:{}", event.topic, event.partition, event.offset);
        if !expected.contains(&event.event_id) {
            faults.push(format!("{place} {} is not to be there", event.event_id));
        }
        let envelope: Value = serde_json::from_str(&event.value).unwrap_or_default();
        if let Some(n) = envelope["payload"]["n"].as_i64() {
            let key = (event.topic, event.partition, event.key);
            let before = newest.insert(key, n).unwrap_or(i64::MIN);
            if n <= before {
                faults.push(format!("{place}: {n} after {before}"));
            }
        }
        if !seen.insert(event.event_id) {
            faults.push(format!("{place} is doubled"));
        }
    })?;
    let lost = expected.difference(&seen).count();
    faults.truncate(10);
    ensure!(lost == 0 && faults.is_empty(), "{lost} lost, {faults:?}");
    Ok(())
}
