//! What is published beside the stream: where the driver gets it from.

use delivery::{FeedProgress, Redelivered, Request};
use envelope::dead_letter::Found;

use super::Context;
use crate::dead_letters::{Letter, Letters, Wanted};
use crate::failure::Failure;
use crate::feed::{self, Fed};

/// A source beside the stream.
pub(super) enum Service {
    /// Dead letters.
    Letters(Letters),
    /// The rows of a feed.
    Feed(feed::Reader),
    /// Nothing: the request is not understood, or names nothing.
    Nothing,
}

/// What it has.
pub(super) enum Served {
    /// A dead letter, and whether it is dropped.
    Letter(Box<Letter>, bool),
    /// What comes of a feed.
    Fed(Fed),
    /// Everything has been handed over.
    End,
}

impl Service {
    /// Carries out a request for dead letters.
    pub fn of(context: &Context, request: &Request) -> Self {
        let pipeline = context.pipeline.name.as_str();
        let (id, by) = (request.id.as_str(), request.requested_by.as_str());
        match (&request.command, Wanted::by(request)) {
            (Ok(command), Some(wanted)) => {
                // As it stands in `outboxd.control`.
                let command = serde_json::to_string(command).unwrap_or_default();
                tracing::info!(pipeline, request = id, by, command, "request begun");
                Self::Letters(Letters::start(&context.pipeline, wanted))
            }
            (Ok(_), None) => Self::Nothing,
            (Err(reason), _) => {
                tracing::warn!(
                    pipeline,
                    request = id,
                    by,
                    reason,
                    "request not understood: nothing is done"
                );
                Self::Nothing
            }
        }
    }

    /// Reads what is left of a feed.
    pub fn of_feed(context: &Context, feed: &FeedProgress) -> Self {
        let pipeline = context.pipeline.name.as_str();
        let (request, rows, done) = (&feed.request, feed.rows, feed.fed.done);
        tracing::info!(pipeline, request, rows, done, "feed begun");
        Self::Feed(feed::Reader::start(&context.pipeline, feed))
    }

    /// The next thing; cancel-safe.
    pub async fn next(&mut self) -> Result<Served, Failure> {
        match self {
            Self::Letters(letters) => match letters.next().await? {
                Some(letter) => Ok(Served::Letter(Box::new(letter), letters.drops)),
                None => Ok(Served::End),
            },
            Self::Feed(reader) => reader.next().await.map(Served::Fed),
            Self::Nothing => Ok(Served::End),
        }
    }
}

/// Hands a dead letter over.
pub(super) fn hand_in(
    delivery: &mut delivery::Delivery,
    letter: &Letter,
    dropped: bool,
    now: std::time::Instant,
) -> Result<(), Failure> {
    let headers = letter.headers();
    let Some(Found::Entry(entry)) = Found::read(&headers) else {
        return Ok(());
    };
    let redelivered = Redelivered {
        entry: &entry,
        topic: &letter.topic,
        partition: letter.partition,
        offset: letter.offset,
        key: letter.key.as_deref(),
        value: letter.value.as_deref(),
        timestamp_ms: letter.timestamp_ms,
        dropped,
    };
    Ok(delivery.handle_redelivered(&redelivered, now)?)
}
