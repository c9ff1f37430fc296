//! The event's records and dead letters.

use envelope::{EVENT_ID_HEADER, POSITION_HEADER, TYPE_HEADER, is_fed, published_again};
use pgoutput::{PgTimestamp, Position};
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;

use super::story::{LetterStory, RecordStory, ResolutionStory};
use super::{Payloads, Ways};
use crate::config::Pipeline;
use crate::dead_letters::{Letter, Reader, Resolution, Survey};
use crate::failure::Failure;
use crate::topics::{self, header};

/// The record, if it is of the event.
pub(super) fn record(
    message: &BorrowedMessage<'_>,
    event_id: &str,
    payloads: Payloads,
) -> Option<RecordStory> {
    if header(message, EVENT_ID_HEADER)? != event_id {
        return None;
    }
    let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
    let position = header(message, POSITION_HEADER).unwrap_or_default();
    let headers = topics::headers(message);
    let (_, replay) = published_again(&headers, position);
    let parsed: Option<Position> = position.parse().ok();
    let (streamed, fed): (Option<_>, Option<_>) = match parsed {
        Some(position) if is_fed(position) => (None, Some(position.index)),
        Some(position) => (Some(position.commit_lsn.to_string()), None),
        None => (None, None),
    };
    let value = message.payload();
    Some(RecordStory {
        place: format!("{topic}/{partition}:{offset}"),
        topic: topic.to_owned(),
        partition,
        offset,
        at: time(message.timestamp().to_millis().unwrap_or(0)),
        position: position.to_owned(),
        commit_lsn: streamed,
        feed_row: fed,
        event_type: header(message, TYPE_HEADER).unwrap_or_default().to_owned(),
        replay: replay.map(str::to_owned),
        key: message.key().map(text),
        value_bytes: value.map(<[u8]>::len),
        value: shown(value, payloads),
    })
}

/// All dead letters of the event.
pub(super) async fn letters(pipeline: &Pipeline, ways: &Ways) -> Result<Vec<LetterStory>, Failure> {
    let (pipeline, ways) = (pipeline.clone(), ways.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let topics = pipeline.dead_letter_topics(None).into_iter();
        let topics = topics.map(str::to_owned).collect();
        let mut found = Vec::new();
        Survey::of(Reader::open(&pipeline)?, topics)?.each(|letter, entry, resolution| {
            if entry.row_id == ways.event_id {
                found.push(letter_story(letter, entry, resolution, ways.payloads));
            }
        })?;
        Ok(found)
    });
    let read = reading.await;
    read.map_err(|e| Failure::caused("internal", "reading dead letters", &e))?
}

fn letter_story(
    letter: &Letter,
    entry: &envelope::dead_letter::Entry<'_>,
    resolution: Option<&Resolution>,
    payloads: Payloads,
) -> LetterStory {
    LetterStory {
        place: letter.place(),
        class: entry.class.to_owned(),
        reason: entry.reason.to_owned(),
        attempts: entry.attempts,
        topic: entry.topic.to_owned(),
        position: entry.position.to_owned(),
        first_failure: entry.first_failure.to_owned(),
        last_failure: entry.last_failure.to_owned(),
        is_stub: entry.is_stub,
        request: (!entry.request.is_empty()).then(|| entry.request.to_owned()),
        resolution: resolution.map(|resolution| ResolutionStory {
            kind: resolution.kind.clone(),
            request: resolution.request.clone(),
        }),
        value: shown(letter.value.as_deref(), payloads),
    }
}

fn shown(value: Option<&[u8]>, payloads: Payloads) -> Option<String> {
    match payloads {
        Payloads::Shown => value.map(text),
        Payloads::Hidden => None,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Milliseconds since 1970 as text.
pub(crate) fn time(millis: i64) -> String {
    let instant = PgTimestamp::from_unix_micros(millis.saturating_mul(1000));
    let text = envelope::rfc3339::Rfc3339::new(instant);
    text.map_or_else(|_| millis.to_string(), |text| text.as_str().to_owned())
}
