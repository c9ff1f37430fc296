//! Events and dead letters, as the topics have them.

use envelope::dead_letter::Entry as LetterEntry;
use envelope::{EVENT_ID_HEADER, POSITION_HEADER, TYPE_HEADER, published_again};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Timestamp};

use super::content::{Content, occurred_us};
use super::entry::{Entry, Outcome, Sighting, What};
use super::report::RecordCount;
use super::spill::Spill;
use crate::config::Pipeline;
use crate::dead_letters::{Letter, Reader, Resolution, Survey};
use crate::failure::Failure;
use crate::topics::{self, Header, Open, Scope, Topics, text};

/// Notes the events of the event topics, from a time on.
pub(super) async fn read_events(
    pipeline: &Pipeline,
    from_ms: i64,
    spill: &mut Spill,
    mut tell: impl FnMut(u64),
) -> Result<RecordCount, Failure> {
    let scope = Scope {
        topics: Topics::Events,
        from_ms: Some(from_ms),
        until_ms: None,
        open: Open::Awaited,
    };
    let mut count = RecordCount::default();
    let mut batches = topics::read(pipeline, scope, event);
    while let Some(batch) = batches.recv().await {
        let batch = batch?;
        count.events += batch.found.len() as u64;
        count.foreign += batch.looked_at - batch.found.len() as u64;
        for sighting in batch.found {
            spill.add(&Entry::Sighting(sighting))?;
        }
        tell(count.events + count.foreign);
    }
    Ok(count)
}

/// The event of a record of an event topic; `None` if no relay wrote it.
fn event(message: &BorrowedMessage<'_>) -> Option<Sighting> {
    let headers = topics::headers(message);
    let id = text(&headers, EVENT_ID_HEADER)?.to_owned();
    let position = text(&headers, POSITION_HEADER).unwrap_or_default();
    let (own, replay) = published_again(&headers, position);
    let value = message.payload();
    let at_ms = message.timestamp().to_millis().unwrap_or(0);
    let times = Times::of(value, at_ms, message.timestamp());
    let content =
        |headers: &[Header<'_>]| Content::of(message.key(), value, headers.iter().copied());
    Some(Sighting {
        id,
        event_type: text(&headers, TYPE_HEADER).unwrap_or_default().to_owned(),
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        position: position.to_owned(),
        at_ms,
        occurred_ms: times.occurred_ms,
        what: What::Event,
        whole: replay.is_some().then(|| content(&headers)),
        content: Some(content(own)),
        replay: replay.map(str::to_owned),
        is_dated_by_record: times.is_dated_by_record,
    })
}

/// What a record tells of times.
struct Times {
    occurred_ms: i64,
    is_dated_by_record: bool,
}

impl Times {
    fn of(value: Option<&[u8]>, at_ms: i64, timestamp: Timestamp) -> Self {
        let occurred = value.and_then(occurred_us).map(|us| us.div_euclid(1000));
        // Where the broker sets the time, it says nothing of the commit.
        let is_told = matches!(timestamp, Timestamp::CreateTime(_));
        Self {
            occurred_ms: occurred.unwrap_or(at_ms),
            is_dated_by_record: !is_told || occurred.is_none_or(|ms| ms == at_ms),
        }
    }
}

/// Notes all dead letters; how many there are. Blocks.
pub(super) fn read_letters(pipeline: &Pipeline, spill: &mut Spill) -> Result<u64, Failure> {
    let topics = pipeline.dead_letter_topics(None).into_iter();
    let topics = topics.map(str::to_owned).collect();
    let survey = Survey::of(Reader::open(pipeline)?, topics)?;
    let (mut count, mut outcome) = (0, Ok(()));
    survey.each(|letter, entry, resolution| {
        // Of a row without an id nothing can be looked up.
        if entry.row_id.is_empty() || outcome.is_err() {
            return;
        }
        count += 1;
        let sighting = dead_letter(letter, entry, resolution);
        outcome = spill.add(&Entry::Sighting(sighting));
    })?;
    outcome.map(|()| count)
}

fn dead_letter(
    letter: &Letter,
    entry: &LetterEntry<'_>,
    resolution: Option<&Resolution>,
) -> Sighting {
    let value = letter.value.as_deref();
    let (own, replay) = published_again(&entry.headers, entry.position);
    let content = |headers: &[Header<'_>]| {
        let of = || Content::of(letter.key.as_deref(), value, headers.iter().copied());
        entry.is_event().then(of)
    };
    let times = Times::of(
        value,
        letter.timestamp_ms,
        Timestamp::CreateTime(letter.timestamp_ms),
    );
    let outcome = match resolution.map(|resolution| resolution.kind.as_str()) {
        None => Outcome::Open,
        Some("dropped") => Outcome::Dropped,
        Some(_) => Outcome::Replayed,
    };
    Sighting {
        id: entry.row_id.to_owned(),
        event_type: entry.header(TYPE_HEADER).to_owned(),
        topic: letter.topic.clone(),
        partition: letter.partition,
        offset: letter.offset,
        position: entry.position.to_owned(),
        at_ms: letter.timestamp_ms,
        occurred_ms: times.occurred_ms,
        what: What::Letter {
            to: entry.topic.to_owned(),
            outcome,
        },
        whole: replay.is_some().then(|| content(&entry.headers)).flatten(),
        content: content(own),
        replay: replay.map(str::to_owned),
        is_dated_by_record: times.is_dated_by_record,
    }
}
