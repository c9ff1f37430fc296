//! Trace: the life of one event, told from everything that knows of it.
//!
//! ```text
//!  row ─► when, which topic ─► windows of time ─► records ─┐
//!                                                          ├─► requests, checkpoint, inboxes
//!  dead-letter topics ─► letters, resolutions ─────────────┘
//! ```
//!
//! How much is read is bounded: the row tells when its event was committed, and records stand in the
//! topics in the order of that time, whenever they were published.

mod consumers;
mod records;
mod rows;
mod search;
mod story;

use std::collections::BTreeSet;

use pgoutput::Position;

use crate::config::{Pipeline, Postgres};
use crate::failure::Failure;
use crate::feed::{self, Connection};
use crate::{requests, sink};

use self::search::Search;

pub(crate) use records::time;
pub use story::{
    ConsumerStory, Covering, Handled, LetterStory, Read, RecordStory, ResolutionStory, RowStory,
    Story,
};

/// Whether what a service wrote is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payloads {
    /// It is not.
    Hidden,
    /// It is.
    Shown,
}

/// What to look for, and where.
#[derive(Debug, Clone)]
pub struct Ways {
    /// The event's id.
    pub event_id: String,
    /// Only these topics; without any, the topic that the row names, else all.
    pub topics: Vec<String>,
    /// Records of this time or later, where no row tells when to look.
    pub since: Option<String>,
    /// Records to look at, at most.
    pub max_records: u64,
    /// Whether payloads are part of it.
    pub payloads: Payloads,
    /// Databases of consumers.
    pub consumers: Vec<Postgres>,
}

/// How far a trace has got.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// The tables are looked at.
    Rows,
    /// Records were looked at.
    Records(u64),
    /// Dead letters are looked at.
    DeadLetters,
    /// The databases of consumers are looked at.
    Consumers,
}

/// Gathers what is known of an event.
pub async fn run(
    pipeline: &Pipeline,
    ways: &Ways,
    mut tell: impl FnMut(Step),
) -> Result<Story, Failure> {
    tell(Step::Rows);
    let connection = Connection::open(&pipeline.postgres).await?;
    let mut story = Story {
        event_id: ways.event_id.clone(),
        rows: rows::find(pipeline, &connection, ways).await?,
        ..Story::default()
    };
    tell(Step::DeadLetters);
    story.dead_letters = records::letters(pipeline, ways).await?;
    let search = Search::plan(pipeline, &connection, ways, &story).await?;
    search.run(pipeline, ways, &mut story, &mut tell).await?;

    if feed::present(&connection).await? {
        let ids = requests_of(&story);
        story.requests = requests::about(&connection, &ids, &ways.event_id).await?;
    } else {
        story
            .notes
            .push("the database has no schema outboxd: there are no requests".to_owned());
    }
    story.covering = covering(pipeline, &connection, &mut story).await?;
    tell(Step::Consumers);
    for database in &ways.consumers {
        story
            .consumers
            .push(consumers::look(database, &story).await);
    }
    Ok(story)
}

/// The requests that records, letters and resolutions name.
fn requests_of(story: &Story) -> Vec<String> {
    let replays = story
        .records
        .iter()
        .filter_map(|record| record.replay.clone());
    let letters = story.dead_letters.iter();
    let of_letters = letters.flat_map(|letter| {
        let resolution = letter.resolution.as_ref().map(|r| r.request.clone());
        letter.request.clone().into_iter().chain(resolution)
    });
    let ids: BTreeSet<String> = replays.chain(of_letters).collect();
    ids.into_iter().collect()
}

/// The checkpoint that has the event, as far as it is still there, and the slot.
async fn covering(
    pipeline: &Pipeline,
    connection: &Connection,
    story: &mut Story,
) -> Result<Option<Covering>, Failure> {
    let records = story.records.iter().map(|record| &record.position);
    let letters = story.dead_letters.iter().map(|letter| &letter.position);
    let positions = records.chain(letters).filter_map(|text| text.parse().ok());
    let streamed = |position: &Position| !envelope::is_fed(*position);
    let Some(position) = positions.filter(streamed).min() else {
        return Ok(None);
    };
    let checkpoint = sink::read_first_covering(pipeline, position).await?;
    let slot = connection.slot(&pipeline.slot_name()).await?;
    let confirmed = slot.map(|slot| slot.confirmed_flush);
    let Some(checkpoint) = checkpoint else {
        story.notes.push(format!(
            "no checkpoint that is still there covers position {position}"
        ));
        return Ok(None);
    };
    Ok(Some(Covering::of(&checkpoint, position, confirmed)))
}
