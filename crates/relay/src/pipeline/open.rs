//! From nothing to a stream: acquire the slot, fence, read the checkpoint, compare.

use std::time::{Instant, SystemTime};

use delivery::{
    Checkpoint, Consent, Delivery, Kind, Recording, Resume, ServerFacts, Settings, Start,
    check_exceptions, check_start,
};
use pgoutput::{Lsn, PgTimestamp};

use super::watch::{Sighting, Watcher};
use super::{Backlog, Context, Memory, create};
use crate::config::{Mode, Pipeline, SinkKind};
use crate::decryption::Keys;
use crate::failure::Failure;
use crate::feed;
use crate::retention::Retention;
use crate::sink::{Recorded, Sink, opening_checkpoint};
use crate::source::{self, PgStream};
use crate::writeback::{self, WriteBack};

/// How often progress without events is recorded in Kafka.
const CHECKPOINT_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// A session ready to stream.
pub(super) struct Opened {
    pub stream: PgStream,
    pub watcher: Watcher,
    pub sink: Sink,
    pub write_back: WriteBack,
    /// Works while it is there.
    pub retention: Option<Retention>,
    pub delivery: Delivery,
    /// What changes while the session runs.
    pub keys: Option<Keys>,
}

/// Opens a session: the same steps in the same order at start, reconnect and takeover.
pub(super) async fn open(
    context: &Context,
    backlog: &mut Backlog,
    memory: &mut Memory,
) -> Result<Opened, Failure> {
    let pipeline = &context.pipeline;
    // Before the slot is held: another relay may have the keys.
    let keys = Keys::open(pipeline).await?;
    let mut session = source::connect(pipeline).await?;
    feed::held(&session.catalog, &pipeline.slot_name()).await?;
    writeback::check(&session.catalog, pipeline).await?;
    delivery::check_slot(&session.facts)?;
    if session.facts.slot.is_none() {
        create::slot(pipeline, &mut session).await?;
    }
    tracing::debug!(pipeline = pipeline.name, "connected");
    let verified = session.verified;
    // From here on nobody else holds the slot, so fencing hits no living relay.
    let (stream, catalog, facts) = session.start().await?;
    context.vitals.holds_slot();
    tracing::debug!(pipeline = pipeline.name, "slot held");
    let server = writeback::Server::new(&catalog, &facts.identity);
    let mut watcher = Watcher::start(context, catalog, facts.coverage.clone());
    let joining = join_kafka(context, memory, &facts);
    let joined = count_meanwhile(context, backlog, &mut watcher, joining).await;
    let (sink, resume) = match joined {
        Err(failure) if failure.code.name == "backfill-unfinished" => {
            drop((stream, watcher));
            create::again(pipeline).await?;
            return Err(failure);
        }
        joined => joined?,
    };
    announce(context, &facts, resume.confirmed_up_to);
    let settings = settings(pipeline, &facts);
    let (tables, topics) = (pipeline.tables.clone(), pipeline.topics.clone());
    let lessons = memory.take_lessons(&pipeline.retry);
    let now = Instant::now();
    let mut delivery = Delivery::new(settings, tables, topics, resume, lessons, verified, now);
    if let Some(keys) = &keys {
        delivery.handle_keys(keys.opener());
    }
    Ok(Opened {
        stream,
        watcher,
        sink,
        write_back: WriteBack::start(context, server.clone()),
        retention: Retention::start(context, server),
        delivery,
        keys,
    })
}

/// A stopped pipeline that looks again streams until it meets the cause again: that is no news.
fn announce(context: &Context, facts: &ServerFacts, lsn: Lsn) {
    let (pipeline, slot) = (&context.pipeline.name, &facts.identity.slot);
    let timeline = facts.identity.timeline;
    if context.vitals.is_rechecking() {
        tracing::debug!(pipeline, slot, %lsn, timeline, "looking again, as far as the stream goes");
    } else {
        tracing::info!(pipeline, slot, %lsn, timeline, "streaming");
    }
}

/// A first start without a stream: creates the slot and records it, if there is none.
pub async fn bootstrap(pipeline: &Pipeline) -> Result<bool, Failure> {
    let mut session = source::connect(pipeline).await?;
    delivery::check_slot(&session.facts)?;
    if session.facts.slot.is_some() {
        return Ok(false);
    }
    create::slot(pipeline, &mut session).await?;
    Ok(true)
}

/// While Kafka is awaited, which may take as long as an outage, the backlog goes on growing.
async fn count_meanwhile<T>(
    context: &Context,
    backlog: &mut Backlog,
    watcher: &mut Watcher,
    joining: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut joining = std::pin::pin!(joining);
    loop {
        let sighting = tokio::select! {
            joined = &mut joining => return joined,
            sighting = watcher.sighting() => sighting,
        };
        match sighting {
            Sighting::Verified {
                lsn,
                counters,
                slot,
            } => {
                backlog.counted(lsn, counters);
                context.show(backlog, slot);
            }
            Sighting::Refused(failure) | Sighting::Ended(failure) => return Err(failure),
        }
    }
}

/// Fences older relays, reads the checkpoint, and decides where the stream is taken up.
async fn join_kafka(
    context: &Context,
    memory: &Memory,
    facts: &ServerFacts,
) -> Result<(Sink, Resume), Failure> {
    let pipeline = &memory.fitted(&context.pipeline);
    let (mut sink, recorded) = Sink::open(pipeline, &facts.identity).await?;
    let Recorded {
        checkpoint,
        exceptions,
    } = recorded;
    let consent = Consent {
        adopt_slot: context.consent.adopt_slot || pipeline.sink == SinkKind::Stdout,
        ..context.consent
    };
    let at = match check_start(checkpoint.as_ref(), facts, consent)? {
        Start::Resume(resume) => {
            warn_of_voided(checkpoint.as_ref(), resume.void_from);
            if let Some(checkpoint) = checkpoint {
                check_exceptions(&checkpoint, &exceptions, consent)?;
                let found = exceptions.len();
                record_accepted(&mut sink, checkpoint, found, &resume, facts, pipeline).await?;
            }
            let resume = Resume {
                exceptions,
                ..*resume
            };
            return Ok((sink, resume));
        }
        Start::Adopt { at } => at,
        Start::Create => {
            return Err(Failure::new(
                "postgres-lost",
                "the slot vanished while it was acquired",
            ));
        }
    };
    if pipeline.sink == SinkKind::Kafka {
        let genesis = opening_checkpoint(Kind::Genesis, facts, at, pipeline);
        sink.record_now(&genesis).await?;
    }
    Ok((
        sink,
        Resume {
            confirmed_up_to: at,
            slot_confirmed: at,
            exceptions,
            ..Resume::default()
        },
    ))
}

/// Events that the promoted or restored server has lost are in the topics all the same.
fn warn_of_voided(checkpoint: Option<&Checkpoint>, void_from: Option<Lsn>) {
    let (Some(checkpoint), Some(void_from)) = (checkpoint, void_from) else {
        return;
    };
    let position = checkpoint.position.map(|position| position.commit_lsn.0);
    let published = position.max(Some(checkpoint.confirmed_up_to));
    if let Some(published) = published.filter(|lsn| *lsn > void_from) {
        tracing::warn!(
            from = %void_from,
            to = %published,
            old_timeline = checkpoint.identity.timeline,
            "this server has left the timeline that events were published from: those between \
             these LSNs are in the topics, but not in the database any more; \
             `outboxd repair --phantoms-from {void_from}` lists them"
        );
    }
}

/// A table that is new in the configuration, or what the operator accepts, holds from here on, and not
/// only once there is progress.
async fn record_accepted(
    sink: &mut Sink,
    checkpoint: Checkpoint,
    exceptions: usize,
    resume: &Resume,
    facts: &ServerFacts,
    pipeline: &Pipeline,
) -> Result<(), Failure> {
    let lost = checkpoint.exceptions.filter(|count| *count != exceptions);
    if lost.is_none() && checkpoint.coverage.as_ref() == Some(&facts.coverage) {
        return Ok(());
    }
    if let Some(recorded) = lost {
        tracing::warn!(
            recorded,
            found = exceptions,
            "accepted: parked keys and dead rows were lost"
        );
    }
    let before = checkpoint.coverage.as_ref();
    if let Some(change) = before.and_then(|before| facts.coverage.change_since(before)) {
        let token = facts.coverage.token();
        tracing::warn!(%token, change, "accepted: rows written meanwhile may be missing");
    }
    let ours = opening_checkpoint(Kind::Progress, facts, Lsn::INVALID, pipeline);
    let renewed = Checkpoint {
        coverage: ours.coverage,
        whole_tables: resume.whole_tables.clone(),
        exceptions: Some(exceptions),
        producers: ours.producers,
        transactional_id_prefix: ours.transactional_id_prefix,
        relay_version: ours.relay_version,
        ..checkpoint
    };
    sink.record_now(&renewed).await
}

fn wall_clock() -> PgTimestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let micros = since.unwrap_or_default().as_micros();
    PgTimestamp::from_unix_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

fn settings(pipeline: &Pipeline, facts: &ServerFacts) -> Settings {
    let recording = match (pipeline.sink, pipeline.mode) {
        (SinkKind::Stdout, _) => Recording::Nowhere,
        (SinkKind::Kafka, Mode::ExactlyOnce) => Recording::InTransaction,
        (SinkKind::Kafka, Mode::AtLeastOnce) => Recording::Beside,
    };
    Settings {
        recording,
        producers: pipeline.concurrency,
        max_events: pipeline.batch.max_events,
        max_bytes: pipeline.batch.max_bytes,
        max_wait: pipeline.batch.max_wait,
        event_max_bytes: pipeline.event.max_bytes,
        tables: pipeline.table_policies(),
        dead_letter_max_bytes: pipeline.largest_dead_letter(),
        dead_letters_per_minute: pipeline.dead_letter_bounds.max_per_minute,
        max_parked_keys: pipeline.dead_letter_bounds.max_parked_keys,
        max_pending_marks: pipeline.write_back.max_pending,
        wall_clock: wall_clock(),
        checkpoint_interval: CHECKPOINT_INTERVAL,
        identity: facts.identity.clone(),
        fingerprint: facts.fingerprint,
        coverage: facts.coverage.clone(),
        transactional_id_prefix: pipeline.kafka.transactional_id_prefix.clone(),
        relay_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
