//! Carrying a repair out.
//!
//! Every step may be the last one before a crash: the record `repair`, which keeps what was known
//! before, stays the newest until the genesis of the new slot, and whoever begins anew begins from
//! it. Nothing is published meanwhile, so nothing is published twice.

use std::time::{Duration, Instant};

use delivery::{Checkpoint, Kind};
use pgoutput::Lsn;
use serde::Serialize;

use super::Step;
use super::diagnosis::diagnose;
use super::survey::{Plan, Survey, Ways};
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::feed::{self, Connection, Lock};
use crate::pipeline::{drop_slot, feed_of};
use crate::sink::{Sink, opening_checkpoint};
use crate::source::{self, Session, SlotForm};
use crate::topics::Open;
use crate::writeback::Server;

/// Longer than one look of a relay that is stopped.
const A_LOOK: Duration = Duration::from_secs(4);
const STEP: Duration = Duration::from_millis(100);

/// What was done.
#[derive(Debug, Serialize)]
pub struct Done {
    /// What was found.
    #[serde(flatten)]
    pub plan: Plan,
    /// Consistent point of the new slot.
    pub slot_at: Lsn,
    /// Rows that the relay publishes before it streams.
    pub feeds: u64,
    /// Rows whose state was put right: their events are in the topics.
    pub marked: u64,
    /// Why states could not be put right.
    pub unmarked: Option<String>,
}

/// Makes another slot and the feed of everything that is unpublished. `None` if there is nothing to
/// repair.
pub async fn apply(
    pipeline: &Pipeline,
    ways: &Ways,
    tell: impl Fn(Step),
) -> Result<Option<Done>, Failure> {
    let mut session = source::connect(pipeline).await?;
    feed::require(&session.catalog, "a repair").await?;
    let slot = pipeline.slot_name();
    let lock = Lock::take(&pipeline.postgres, &slot).await?;
    refuse_holder(&session, &slot).await?;
    let (mut sink, recorded) = Sink::open(pipeline, &session.facts.identity).await?;
    let checkpoint = recorded.checkpoint;
    session.refresh_slot().await?;
    let Some(diagnosis) = diagnose(checkpoint.as_ref(), &session.facts, ways)? else {
        return Ok(None);
    };
    let old_feed = diagnosis.feed.clone();
    let connection = Connection::open(&pipeline.postgres).await?;
    feed::sweep(
        &connection,
        &slot,
        old_feed.as_ref().map(|f| f.request.as_str()),
    )
    .await?;
    let record = repair_record(checkpoint, &session, pipeline);
    sink.record_now(&record).await?;
    drop_slot(pipeline).await?;
    let made = session.create_slot(SlotForm::WithSnapshot).await?;
    let snapshot = made.snapshot.unwrap_or_default();

    let writing = Connection::in_snapshot(&pipeline.postgres, &snapshot).await?;
    tell(Step::Tables);
    let mut survey = Survey::take(pipeline, &writing, diagnosis, ways, true).await?;
    survey.read_topics(&writing, Open::Awaited, &tell).await?;
    tell(Step::Gathering);
    let request = feed::new_request();
    let (reports, feeds) = survey.gather(&writing, &request).await?;
    let whole_tables = survey.whole_tables(&writing).await?;
    writing.execute("COMMIT").await?;

    let genesis = Checkpoint {
        feed: feed_of(request, feeds),
        whole_tables,
        ..opening_checkpoint(Kind::Genesis, &session.facts, made.at, pipeline)
    };
    sink.record_now(&genesis).await?;
    let server = Server::new(&session.catalog, &session.facts.identity);
    drop((sink, session, lock));
    if let Some(feed) = old_feed {
        feed::discard(&connection, &feed.request).await?;
    }
    survey.discard_unanswered(&connection).await?;
    tell(Step::Marking);
    let (marked, unmarked) = match survey.mark_found(&server).await {
        Ok(marked) => (marked, None),
        Err(failure) => (0, Some(failure.to_string())),
    };
    Ok(Some(Done {
        plan: survey.into_plan(reports),
        slot_at: made.at,
        feeds,
        marked,
        unmarked,
    }))
}

/// A relay that is stopped looks again now and then, and holds the slot for a moment each time.
async fn refuse_holder(session: &Session, slot: &str) -> Result<(), Failure> {
    let until = Instant::now() + A_LOOK;
    let holder = loop {
        match session.catalog.holder(slot).await? {
            None => return Ok(()),
            Some(holder) if Instant::now() > until => break holder,
            Some(_) => tokio::time::sleep(STEP).await,
        }
    };
    let message = format!("replication slot {slot:?} is held by {holder}: stop it first");
    Err(Failure::new("slot-active", message))
}

/// What was known before, under the word that a repair is under way, and with our own producers.
fn repair_record(
    checkpoint: Option<Checkpoint>,
    session: &Session,
    pipeline: &Pipeline,
) -> Checkpoint {
    let ours = opening_checkpoint(Kind::Repair, &session.facts, Lsn::INVALID, pipeline);
    let known = checkpoint.filter(|c| c.kind != Kind::Intent);
    known.map_or_else(
        || ours.clone(),
        |known| Checkpoint {
            kind: Kind::Repair,
            producers: ours.producers,
            transactional_id_prefix: ours.transactional_id_prefix.clone(),
            relay_version: ours.relay_version.clone(),
            ..known
        },
    )
}
