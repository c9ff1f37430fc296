//! The first start: intent, slot, the rows that come before its stream, genesis.
//!
//! The intent is recorded before the slot is made, so that after a crash in between the slot is
//! known to be ours. With a backfill the slot is of no use without its rows, which only its own
//! snapshot tells: then the intent says so, and after a crash the slot is made anew.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use delivery::{Checkpoint, Consent, FeedProgress, Kind, check_start};
use pgoutput::Lsn;

use crate::config::{Pipeline, SinkKind};
use crate::failure::Failure;
use crate::feed::{self, Connection, Lock, gather, whole};
use crate::sink::{Sink, opening_checkpoint};
use crate::source::{self, Session, SlotForm};

/// A walsender that has been left takes a moment to let the slot go.
const RELEASE_PATIENCE: Duration = Duration::from_secs(10);
const RELEASE_POLL: Duration = Duration::from_millis(100);

/// The slot does not exist: unless a checkpoint says that it did, this is a first start.
pub(super) async fn slot(pipeline: &Pipeline, session: &mut Session) -> Result<(), Failure> {
    if pipeline.sink == SinkKind::Stdout {
        session.create_slot(SlotForm::Temporary).await?;
        return session.refresh_slot().await;
    }
    let _lock = Lock::take(&pipeline.postgres, &pipeline.slot_name()).await?;
    let (mut sink, recorded) = Sink::open(pipeline, &session.facts.identity).await?;
    let checkpoint = recorded.checkpoint;
    // Another relay may have made it meanwhile.
    session.refresh_slot().await?;
    if session.facts.slot.is_some() {
        if !is_unfinished(checkpoint.as_ref()) {
            return Ok(());
        }
        drop_slot(pipeline).await?;
        session.refresh_slot().await?;
    }
    check_start(checkpoint.as_ref(), &session.facts, Consent::default())?;
    match pipeline.backfill.is_wanted() {
        true => with_backfill(pipeline, session, &mut sink).await?,
        false => plain(pipeline, session, &mut sink).await?,
    }
    session.refresh_slot().await
}

/// A start found a slot whose backfill is not known: it is made anew.
pub(super) async fn again(pipeline: &Pipeline) -> Result<(), Failure> {
    let mut session = source::connect(pipeline).await?;
    slot(pipeline, &mut session).await
}

fn is_unfinished(checkpoint: Option<&Checkpoint>) -> bool {
    checkpoint.is_some_and(|c| c.kind == Kind::Intent && c.feed.is_some())
}

async fn plain(pipeline: &Pipeline, session: &mut Session, sink: &mut Sink) -> Result<(), Failure> {
    let intent = opening_checkpoint(Kind::Intent, &session.facts, Lsn::INVALID, pipeline);
    sink.record_now(&intent).await?;
    let form = match whole::matters(pipeline) {
        true => SlotForm::WithSnapshot,
        false => SlotForm::Lasting,
    };
    let made = session.create_slot(form).await?;
    let whole_tables = match &made.snapshot {
        Some(snapshot) => whole::empty(pipeline, snapshot).await,
        None => BTreeSet::new(),
    };
    let genesis = Checkpoint {
        whole_tables,
        ..opening_checkpoint(Kind::Genesis, &session.facts, made.at, pipeline)
    };
    sink.record_now(&genesis).await?;
    let slot = pipeline.slot_name();
    tracing::info!(pipeline = pipeline.name, slot, lsn = %made.at, "slot created: rows committed before it are not published");
    Ok(())
}

async fn with_backfill(
    pipeline: &Pipeline,
    session: &mut Session,
    sink: &mut Sink,
) -> Result<(), Failure> {
    feed::require(&session.catalog, "a backfill").await?;
    // Of starts that did not come to their end.
    let connection = Connection::open(&pipeline.postgres).await?;
    feed::sweep(&connection, &pipeline.slot_name(), None).await?;
    let request = feed::new_request();
    let intent = Checkpoint {
        feed: Some(FeedProgress {
            request: request.clone(),
            ..FeedProgress::default()
        }),
        ..opening_checkpoint(Kind::Intent, &session.facts, Lsn::INVALID, pipeline)
    };
    sink.record_now(&intent).await?;
    let made = session.create_slot(SlotForm::WithSnapshot).await?;
    let slot = pipeline.slot_name();
    tracing::info!(pipeline = pipeline.name, slot, lsn = %made.at, "slot created: gathering the rows committed before it");
    let snapshot = made.snapshot.unwrap_or_default();
    let backfill = gather::backfill(pipeline, &snapshot, &request).await?;
    tracing::info!(
        pipeline = pipeline.name,
        rows = backfill.rows,
        request,
        "rows for the backfill"
    );
    let genesis = Checkpoint {
        feed: feed_of(request, backfill.rows),
        whole_tables: backfill.whole_tables,
        ..opening_checkpoint(Kind::Genesis, &session.facts, made.at, pipeline)
    };
    sink.record_now(&genesis).await
}

/// The feed that comes before the stream of a new slot, if it has rows.
pub fn feed_of(request: String, rows: u64) -> Option<FeedProgress> {
    (rows > 0).then_some(FeedProgress {
        request,
        rows,
        ..FeedProgress::default()
    })
}

/// Drops the slot, which nobody may be reading from. A walsender that is just ending is waited for.
pub async fn drop_slot(pipeline: &Pipeline) -> Result<(), Failure> {
    let connection = Connection::open(&pipeline.postgres).await?;
    let slot = pipeline.slot_name();
    let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
               WHERE slot_name = $1";
    let deadline = Instant::now() + RELEASE_PATIENCE;
    loop {
        match connection.change(sql, &[&slot]).await {
            Err(failure) if failure.code.name == "slot-active" && Instant::now() < deadline => {
                tokio::time::sleep(RELEASE_POLL).await;
            }
            Err(failure) => return Err(failure),
            Ok(_) => {
                tracing::info!(pipeline = pipeline.name, slot, "slot dropped");
                return Ok(());
            }
        }
    }
}
