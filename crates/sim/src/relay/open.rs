//! From nothing to a stream: acquire the slot, fence, read the checkpoint, compare.

use std::time::Duration;

use delivery::{
    CHECKPOINT_FORMAT, Checkpoint, Consent, Coverage, Delivery, Fingerprint, Halt, Identity, Kind,
    Lessons, Recording, Resume, RetryPolicy, ServerFacts, Settings, Start, TablePolicy,
    check_exceptions, check_slot, check_start,
};
use envelope::{TableSpec, TopicPolicy};
use pgoutput::Lsn;

use super::reader::{read_exceptions, read_latest};
use super::sink::Sink;
use super::watcher::{Sighting, Watcher};
use super::write_back::WriteBack;
use super::{Bug, Context, Failure};
use crate::broker::{CHECKPOINT_TOPIC, DEAD_LETTER_TOPIC};
use crate::server::{ConnectionId, DATABASE, Gone, SLOT, StartRefusal};
use crate::setup::Mode;
use crate::task::pause;

/// Larger than some rows of a run.
const EVENT_MAX_BYTES: usize = 12_000;
/// Larger than what the dead-letter topic takes.
const DEAD_LETTER_MAX_BYTES: usize = 1 << 20;

/// An open connection; closed when dropped, also by death.
pub(super) struct Session {
    context: Context,
    pub connection: ConnectionId,
}

impl Drop for Session {
    fn drop(&mut self) {
        let connection = self.connection;
        self.context.with(|world| world.server.hang_up(connection));
    }
}

/// A session ready to stream.
pub(super) struct Opened {
    pub session: Session,
    pub watcher: Watcher,
    pub sink: Sink,
    pub write_back: WriteBack,
    pub delivery: Delivery,
    pub resume: Resume,
}

/// Opens a session: the same steps in the same order at start, reconnect and takeover.
pub(super) async fn open(
    context: &Context,
    lessons: &mut Option<Lessons>,
) -> Result<Opened, Failure> {
    pause().await;
    let connection = context.connect()?;
    let session = Session {
        context: context.clone(),
        connection,
    };
    prepare(context, session, lessons)
        .await
        .map_err(|failure| match failure {
            Failure::Halted(halt) if is_misled(context, connection, &halt) => Failure::Misled(halt),
            failure => failure,
        })
}

/// Whether the relay judges by what it read before another one acted: it does not hold the slot
/// any more, or did not see it being made.
fn is_misled(context: &Context, connection: ConnectionId, halt: &Halt) -> bool {
    context.with(|world| match halt {
        Halt::SlotMissing { .. } => world.server.confirmed().is_some(),
        Halt::SlotLost { .. } => false,
        _ => !world.server.is_holder(connection),
    })
}

async fn prepare(
    context: &Context,
    session: Session,
    lessons: &mut Option<Lessons>,
) -> Result<Opened, Failure> {
    let connection = session.connection;
    pause().await;
    let verified = context.with(|world| world.server.look(connection))?;
    let mut facts = read_facts(context, connection).await?;
    match check_slot(&facts) {
        Err(Halt::SlotLost { .. }) if context.has(Bug::ReplacesLostSlots) => {
            context.with(|world| world.server.drop_slot());
            facts.slot = None;
        }
        checked => checked?,
    }
    if facts.slot.is_none() {
        create_slot(context, connection, &mut facts).await?;
    }
    pause().await;
    let at = match context.has(Bug::StartsAtCheckpoint) {
        true => read_latest(context)
            .await?
            .map_or(Lsn::INVALID, |c| c.confirmed_up_to),
        false => Lsn::INVALID,
    };
    context.with(|world| world.server.start(connection, at))?;
    context.say(|| "holds the slot".to_owned());
    pause().await;
    facts.slot = context.with(|world| world.server.slot_facts(connection))?;
    pause().await;
    facts.wal_end = context.with(|world| world.server.wal_end(connection))?;
    let watcher = Watcher::start(context, connection);
    let catalog_ended = || match watcher.next() {
        Some(Sighting::Ended) => Some(Failure::transient("the catalog connection ended")),
        Some(Sighting::Verified(_)) | None => None,
    };
    let joining = join_kafka(context, &facts);
    let (sink, resume) = context.unless(catalog_ended, joining).await??;
    context.count("sessions");
    context.say(|| format!("streams: {resume:?}"));
    let lessons = lessons.take().unwrap_or_else(|| fresh_lessons(context));
    let write_back = WriteBack::start(context, facts.identity.timeline);
    let delivery = machine(context, facts.identity, &resume, lessons, verified);
    Ok(Opened {
        session,
        watcher,
        sink,
        write_back,
        delivery,
        resume,
    })
}

fn machine(
    context: &Context,
    identity: Identity,
    resume: &Resume,
    lessons: Lessons,
    verified: Lsn,
) -> Delivery {
    let mut policy = TopicPolicy::default();
    policy.deny.insert(CHECKPOINT_TOPIC.to_owned());
    let tables = vec![TableSpec::default_outbox()];
    let verified = match context.has(Bug::ConfirmsUnverified) {
        true => Lsn::from(u64::MAX),
        false => verified,
    };
    Delivery::new(
        settings(context, identity),
        tables,
        policy,
        resume.clone(),
        lessons,
        verified,
        context.now(),
    )
}

fn fresh_lessons(context: &Context) -> Lessons {
    let policy = RetryPolicy {
        initial: Duration::from_millis(100),
        max: Duration::from_secs(3),
        multiplier: 2.0,
    };
    Lessons::new(policy, context.adversity.max_retries)
}

fn settings(context: &Context, identity: Identity) -> Settings {
    let (limits, adversity) = (context.limits, context.adversity);
    Settings {
        recording: match context.mode {
            Mode::ExactlyOnce => Recording::InTransaction,
            Mode::AtLeastOnce => Recording::Beside,
        },
        producers: limits.producers,
        max_events: limits.max_events,
        max_bytes: limits.max_bytes,
        max_wait: limits.max_wait,
        event_max_bytes: EVENT_MAX_BYTES,
        tables: vec![TablePolicy {
            dead_letter_topic: DEAD_LETTER_TOPIC.to_owned(),
            on_dead_letter: adversity.on_dead_letter,
            write_back: adversity.write_back,
        }],
        dead_letter_max_bytes: DEAD_LETTER_MAX_BYTES,
        dead_letters_per_minute: adversity.dead_letters_per_minute,
        max_parked_keys: 1000,
        max_pending_marks: adversity.max_pending_marks,
        wall_clock: context.with(|world| world.clock.timestamp()),
        checkpoint_interval: context.checkpoint_interval,
        identity,
        fingerprint: fingerprint(),
        coverage: Coverage::default(),
        transactional_id_prefix: "outboxd".to_owned(),
        relay_version: "sim".to_owned(),
    }
}

fn identity(timeline: u32) -> Identity {
    Identity {
        system_identifier: "7300000000000000001".to_owned(),
        timeline,
        database: DATABASE.to_owned(),
        slot: SLOT.to_owned(),
    }
}

fn fingerprint() -> Fingerprint {
    Fingerprint::of("publication")
}

async fn read_facts(context: &Context, connection: ConnectionId) -> Result<ServerFacts, Failure> {
    pause().await;
    let (wal_end, timeline, history) = context.with(|world| {
        let wal_end = world.server.wal_end(connection)?;
        let history = world.server.switches().to_vec();
        Ok::<_, Gone>((wal_end, world.server.timeline(), history))
    })?;
    pause().await;
    let slot = context.with(|world| world.server.slot_facts(connection))?;
    Ok(ServerFacts {
        identity: identity(timeline),
        wal_end,
        history,
        slot,
        fingerprint: fingerprint(),
        coverage: Coverage::default(),
    })
}

/// The slot does not exist: unless a checkpoint says that it did, this is a first start.
async fn create_slot(
    context: &Context,
    connection: ConnectionId,
    facts: &mut ServerFacts,
) -> Result<(), Failure> {
    let (sink, checkpoint) = Sink::open(context).await?;
    pause().await;
    // Another relay may have made it meanwhile.
    facts.slot = context.with(|world| world.server.slot_facts(connection))?;
    if facts.slot.is_some() {
        return Ok(());
    }
    match check_start(checkpoint.as_ref(), facts, Consent::default()) {
        Err(Halt::SlotMissing { .. }) if context.has(Bug::RecreatesMissingSlots) => {}
        Err(Halt::SlotMissing { .. }) if context.has(Bug::ReplacesLostSlots) => {}
        checked => {
            checked?;
        }
    }
    let intent = opening_checkpoint(context, facts, Kind::Intent, Lsn::INVALID);
    sink.record_now(&intent).await?;
    let at = loop {
        pause().await;
        if let Some(at) = context.with(|world| world.server.create_slot(connection))? {
            break at;
        }
    };
    let genesis = opening_checkpoint(context, facts, Kind::Genesis, at);
    sink.record_now(&genesis).await?;
    context.say(|| format!("created the slot at {at}"));
    Ok(())
}

/// Fences older relays, reads the checkpoint, and decides where the stream is taken up.
async fn join_kafka(context: &Context, facts: &ServerFacts) -> Result<(Sink, Resume), Failure> {
    let (sink, mut checkpoint) = Sink::open(context).await?;
    if let Some(checkpoint) = &mut checkpoint
        && context.has(Bug::IgnoresTimelines)
    {
        checkpoint.identity.timeline = facts.identity.timeline;
    }
    let consent = Consent {
        adopt_slot: context.has(Bug::AdoptsAnySlot),
        ..Consent::default()
    };
    let start = match check_start(checkpoint.as_ref(), facts, consent) {
        Err(Halt::SlotAhead { slot_confirmed, .. }) if context.has(Bug::TrustsForeignSlots) => {
            Start::Adopt { at: slot_confirmed }
        }
        checked => checked?,
    };
    let exceptions = read_exceptions(context).await?;
    let at = match start {
        Start::Resume(resume) => {
            if let Some(checkpoint) = &checkpoint {
                check_exceptions(checkpoint, &exceptions, consent)?;
            }
            let resume = Resume {
                exceptions,
                ..*resume
            };
            return Ok((sink, taken_up(context, resume)));
        }
        Start::Adopt { at } => at,
        Start::Create => return Err(Failure::transient("the slot vanished")),
    };
    context.count("adopted");
    let genesis = opening_checkpoint(context, facts, Kind::Genesis, at);
    sink.record_now(&genesis).await?;
    let resume = Resume {
        confirmed_up_to: at,
        slot_confirmed: at,
        exceptions,
        ..Resume::default()
    };
    Ok((sink, resume))
}

fn taken_up(context: &Context, mut resume: Resume) -> Resume {
    if resume.position.is_some_and(|position| !position.complete) {
        context.count("resumed-in-mid-transaction");
    }
    if context.has(Bug::ForgetsPosition) {
        resume.position = None;
    }
    if let Some(position) = &mut resume.position {
        if context.has(Bug::ForgetsIndex) {
            position.index = 0;
        }
        position.complete |= context.has(Bug::TakesPartsForWhole);
    }
    if context.has(Bug::ForgetsSettled) {
        resume.settled_below = Lsn::INVALID;
    }
    let exceptions = &mut resume.exceptions;
    if context.has(Bug::ForgetsDead) {
        exceptions.dead.clear();
    }
    if context.has(Bug::ForgetsParked) {
        exceptions.parked.clear();
    }
    if context.has(Bug::ForgetsRevived) {
        exceptions.revived.clear();
    }
    resume
}

fn opening_checkpoint(context: &Context, facts: &ServerFacts, kind: Kind, at: Lsn) -> Checkpoint {
    Checkpoint {
        format: CHECKPOINT_FORMAT,
        kind,
        identity: facts.identity.clone(),
        position: None,
        floor: Lsn::INVALID,
        feed: None,
        confirmed_up_to: at,
        settled_below: Lsn::INVALID,
        fingerprint: fingerprint(),
        coverage: Some(facts.coverage.clone()),
        whole_tables: std::collections::BTreeSet::new(),
        exceptions: None,
        producers: context.limits.producers,
        transactional_id_prefix: None,
        relay_version: "sim".to_owned(),
    }
}

impl From<Gone> for Failure {
    fn from(gone: Gone) -> Self {
        Self::Transient(format!("no connection: {gone:?}"))
    }
}

impl From<StartRefusal> for Failure {
    fn from(refusal: StartRefusal) -> Self {
        match refusal {
            StartRefusal::SlotActive => Self::Standby,
            StartRefusal::SlotLost => Self::transient("the slot was lost meanwhile"),
            StartRefusal::SlotMissing => Self::transient("the slot vanished"),
            StartRefusal::Gone(gone) => gone.into(),
        }
    }
}
