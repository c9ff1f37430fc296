//! Opening the lanes: fence every older relay, then read the checkpoint.

use std::ops::Range;
use std::time::Duration;

use delivery::{Checkpoint, Exception, WindowId};
use envelope::RecordBatch;

use super::asker::Asker;
use super::client::{Client, metadata};
use super::lane::{Command, Lane, Report, Reports};
use super::reader::read_latest;
use super::{Bug, Context, Failure, idempotent, transactional};
use crate::broker::{Message, Producer, Refusal};
use crate::setup::Mode;
use crate::task::pause;

const FENCE_PATIENCE: Duration = Duration::from_secs(15);
const METADATA_PATIENCE: Duration = Duration::from_secs(10);

/// Lanes to Kafka, and their reports.
pub(super) struct Sink {
    lanes: Vec<Lane>,
    recorder: Option<Lane>,
    asker: Asker,
    /// In the order in which they came.
    pub reports: Reports,
}

impl Sink {
    /// Opens the lanes and reads the newest checkpoint.
    pub async fn open(context: &Context) -> Result<(Self, Option<Checkpoint>), Failure> {
        let ring = match context.mode {
            Mode::ExactlyOnce => context.limits.producers,
            Mode::AtLeastOnce => 1,
        };
        let (producers, checkpoint) = join(context, ring).await?;
        let unknown = || Failure::transient("asking for the topics takes too long");
        let topics = metadata(context, METADATA_PATIENCE)
            .await
            .ok_or_else(unknown)?;
        let reports = Reports::default();
        let client = |producer| Client::new(context.clone(), producer, topics.clone());
        let transactional = producers.into_iter().map(|producer| {
            let (inner, client) = (context.clone(), client(producer));
            Lane::spawn(context, &reports, move |end| {
                transactional::run(inner, client, end)
            })
        });
        let mut lanes: Vec<_> = transactional.collect();
        let mut recorder = None;
        if context.mode == Mode::AtLeastOnce {
            recorder = lanes.pop();
            let producer = context.with(|world| world.broker.idempotent());
            let (inner, client) = (context.clone(), client(producer));
            lanes = vec![Lane::spawn(context, &reports, move |end| {
                idempotent::run(inner, client, end)
            })];
        }
        let sink = Self {
            lanes,
            recorder,
            asker: Asker::default(),
            reports,
        };
        Ok((sink, checkpoint))
    }

    /// Sends a window on its way.
    pub fn produce(
        &self,
        window: WindowId,
        batch: RecordBatch,
        checkpoint: Option<&Checkpoint>,
        exceptions: &[Exception],
    ) {
        self.lane(window).send(Command::Produce {
            window,
            batch,
            checkpoint: checkpoint.map(Checkpoint::encode),
            exceptions: encode(exceptions),
        });
    }

    /// Asks about a topic.
    pub fn ask(&self, context: &Context, topic: String) {
        self.asker.ask(context, topic, &self.reports);
    }

    /// Commits a window whose records are acknowledged.
    pub fn commit(&self, window: WindowId) {
        self.lane(window).send(Command::Commit { window });
    }

    /// Writes a checkpoint in a transaction of its own.
    pub fn record(&self, checkpoint: &Checkpoint, exceptions: &[Exception]) {
        let lane = self.recorder.as_ref().or(self.lanes.first());
        let lane = lane.expect("a ring has a producer");
        lane.send(Command::Record {
            checkpoint: checkpoint.encode(),
            exceptions: encode(exceptions),
        });
    }

    /// Writes a checkpoint and waits until it is committed.
    pub async fn record_now(&self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        self.record(checkpoint, &[]);
        loop {
            pause().await;
            match self.reports.next() {
                Some(Report::Recorded) => return Ok(()),
                Some(Report::Failed(failure)) => return Err(failure),
                Some(Report::Refused(_)) => return Err(Failure::transient("refused")),
                Some(
                    Report::Trouble
                    | Report::Answered { .. }
                    | Report::Acknowledged { .. }
                    | Report::Committed { .. },
                )
                | None => {}
            }
        }
    }

    /// Nothing is under way or waits to be heard.
    pub fn is_idle(&self) -> bool {
        let mut lanes = self.lanes.iter().chain(&self.recorder);
        self.reports.is_empty() && self.asker.is_idle() && lanes.all(Lane::is_idle)
    }

    fn lane(&self, window: WindowId) -> &Lane {
        let index = window.0 % self.lanes.len() as u64;
        &self.lanes[index as usize]
    }
}

fn encode(exceptions: &[Exception]) -> Vec<Message> {
    let exceptions = exceptions.iter();
    exceptions
        .map(|exception| Message::exception(exception.key(), exception.value()))
        .collect()
}

/// Acquires the ring's ids and reads the newest checkpoint. If its writer had a larger ring, the
/// rest of that is fenced too, and the checkpoint read again.
async fn join(
    context: &Context,
    ring: usize,
) -> Result<(Vec<Producer>, Option<Checkpoint>), Failure> {
    if context.has(Bug::ReadsBeforeFencing) {
        let checkpoint = read_latest(context).await?;
        let recorded = checkpoint.as_ref().map_or(0, |c| c.producers);
        let mut producers = fence(context, 0..ring.max(recorded)).await?;
        producers.truncate(ring);
        return Ok((producers, checkpoint));
    }
    let producers = fence(context, 0..ring).await?;
    let mut fenced = ring;
    loop {
        let checkpoint = read_latest(context).await?;
        let recorded = checkpoint.as_ref().map_or(0, |c| c.producers);
        if recorded <= fenced || context.has(Bug::FencesOwnRingOnly) {
            return Ok((producers, checkpoint));
        }
        context.count("larger-ring-fenced");
        fence(context, fenced..recorded).await?;
        fenced = recorded;
    }
}

/// Acquires ids, the first one first.
async fn fence(context: &Context, ids: Range<usize>) -> Result<Vec<Producer>, Failure> {
    let mut producers = Vec::new();
    for id in ids {
        let name = match context.has(Bug::NamesProducersAnew) {
            true => format!("outboxd.{}.{id}", context.number()),
            false => format!("outboxd.{id}"),
        };
        let producer = init(context, &name).await?;
        producers.push((id, producer));
    }
    producers.sort_unstable_by_key(|(id, _)| *id);
    context.say(|| "older producers fenced".to_owned());
    Ok(producers
        .into_iter()
        .map(|(_, producer)| producer)
        .collect())
}

async fn init(context: &Context, id: &str) -> Result<Producer, Failure> {
    let until = context.elapsed() + FENCE_PATIENCE;
    while context.elapsed() < until {
        pause().await;
        if context.with(|world| world.befalls(|faults| faults.fence_delayed, "fence-delayed")) {
            init_late(context, id.to_owned());
            return Err(Failure::transient("fencing timed out"));
        }
        let answer = context.with(|world| {
            let now = world.clock.elapsed();
            if world.befalls(|faults| faults.fence_lost, "fence-lost") {
                return Err(None);
            }
            let answer = world.broker.init(id, now).map_err(Some);
            match world.befalls(|faults| faults.fence_unanswered, "fence-unanswered") {
                true => Err(None),
                false => answer,
            }
        });
        match answer {
            Ok(producer) => return Ok(producer),
            Err(Some(Refusal::Unavailable | Refusal::Concurrent)) => {}
            Err(Some(refusal)) => return Err(Failure::transient(refusal)),
            Err(None) => return Err(Failure::transient("fencing timed out")),
        }
    }
    Err(Failure::transient("fencing takes too long"))
}

/// The client has given up, and the request arrives all the same: it may fence a successor.
fn init_late(context: &Context, id: String) {
    let inner = context.clone();
    context.post(Box::pin(async move {
        while !inner.with(|world| world.dice.one_in(30)) {
            pause().await;
        }
        inner.with(|world| {
            let now = world.clock.elapsed();
            let _ = world.broker.init(&id, now);
        });
    }));
}
