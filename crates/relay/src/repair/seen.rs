//! Events in the topics, as a repair looks at them.

use std::collections::BTreeSet;

use pgoutput::Position;
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use tokio::sync::mpsc;

use crate::config::Pipeline;
use crate::failure::Failure;
use crate::topics::{self, Batch, Scope, header};

/// A record.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub event_id: String,
    pub event_type: String,
    pub topic: String,
    /// Where the change stood in the stream.
    pub position: Option<Position>,
    pub is_dead_letter: bool,
}

/// The events of the topics.
pub(super) fn read(
    pipeline: &Pipeline,
    scope: Scope,
) -> mpsc::Receiver<Result<Batch<Seen>, Failure>> {
    let dead_letters = pipeline.dead_letter_topics(None).into_iter();
    let dead_letters: BTreeSet<String> = dead_letters.map(str::to_owned).collect();
    topics::read(pipeline, scope, move |message| seen(message, &dead_letters))
}

/// The event of a record, if it is one.
fn seen(message: &BorrowedMessage<'_>, dead_letters: &BTreeSet<String>) -> Option<Seen> {
    let text = |name| header(message, name).map(str::to_owned);
    Some(Seen {
        event_id: text(envelope::EVENT_ID_HEADER)?,
        // A dead letter may be of a row without one.
        event_type: text(envelope::TYPE_HEADER).unwrap_or_default(),
        position: header(message, envelope::POSITION_HEADER).and_then(|text| text.parse().ok()),
        topic: message.topic().to_owned(),
        is_dead_letter: dead_letters.contains(message.topic()),
    })
}
