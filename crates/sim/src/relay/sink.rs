//! Opening the lanes: fence every older relay, then read the checkpoint.

use std::ops::Range;
use std::time::Duration;

use delivery::{Checkpoint, WindowId};
use envelope::RecordBatch;

use super::lane::{Command, Lane, Report, Reports};
use super::{Bug, Context, Failure, idempotent, transactional};
use crate::broker::{Producer, Refusal};
use crate::setup::Mode;
use crate::task::pause;

const FENCE_PATIENCE: Duration = Duration::from_secs(15);
const READ_PATIENCE: Duration = Duration::from_secs(30);

/// Lanes to Kafka, and their reports.
pub(super) struct Sink {
    lanes: Vec<Lane>,
    recorder: Option<Lane>,
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
        let reports = Reports::default();
        let transactional = producers.into_iter().map(|producer| {
            let context = context.clone();
            Lane::spawn(&context.clone(), &reports, move |end| {
                transactional::run(context, producer, end)
            })
        });
        let mut lanes: Vec<_> = transactional.collect();
        let mut recorder = None;
        if context.mode == Mode::AtLeastOnce {
            recorder = lanes.pop();
            let producer = context.with(|world| world.broker.idempotent());
            let inner = context.clone();
            lanes = vec![Lane::spawn(context, &reports, move |end| {
                idempotent::run(inner, producer, end)
            })];
        }
        let sink = Self {
            lanes,
            recorder,
            reports,
        };
        Ok((sink, checkpoint))
    }

    /// Sends a window on its way.
    pub fn produce(&self, window: WindowId, batch: RecordBatch, checkpoint: Option<&Checkpoint>) {
        self.lane(window).send(Command::Produce {
            window,
            batch,
            checkpoint: checkpoint.map(Checkpoint::encode),
        });
    }

    /// Commits a window whose records are acknowledged.
    pub fn commit(&self, window: WindowId) {
        self.lane(window).send(Command::Commit { window });
    }

    /// Writes a checkpoint in a transaction of its own.
    pub fn record(&self, checkpoint: &Checkpoint) {
        let lane = self.recorder.as_ref().or(self.lanes.first());
        let lane = lane.expect("a ring has a producer");
        lane.send(Command::Record {
            checkpoint: checkpoint.encode(),
        });
    }

    /// Writes a checkpoint and waits until it is committed.
    pub async fn record_now(&self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        self.record(checkpoint);
        loop {
            pause().await;
            match self.reports.next() {
                Some(Report::Recorded) => return Ok(()),
                Some(Report::Failed(failure)) => return Err(failure),
                Some(Report::Trouble | Report::Acknowledged { .. } | Report::Committed { .. })
                | None => {}
            }
        }
    }

    /// Nothing is under way or waits to be heard.
    pub fn is_idle(&self) -> bool {
        let mut lanes = self.lanes.iter().chain(&self.recorder);
        self.reports.is_empty() && lanes.all(Lane::is_idle)
    }

    fn lane(&self, window: WindowId) -> &Lane {
        let index = window.0 % self.lanes.len() as u64;
        &self.lanes[index as usize]
    }
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

/// Acquires ids, in any order.
async fn fence(context: &Context, ids: Range<usize>) -> Result<Vec<Producer>, Failure> {
    let mut ids: Vec<_> = ids.collect();
    context.with(|world| world.dice.shuffle(&mut ids));
    let mut producers = Vec::new();
    for id in ids {
        let producer = init(context, &format!("outboxd.{id}")).await?;
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
        let answer = context.with(|world| {
            let now = world.clock.elapsed();
            let fails = world.dice.per_mille(world.requests.fence);
            if fails && world.dice.one_in(2) {
                return Err(None);
            }
            let answer = world.broker.init(id, now).map_err(Some);
            if fails { Err(None) } else { answer }
        });
        match answer {
            Ok(producer) => return Ok(producer),
            Err(Some(Refusal::Unavailable | Refusal::Concurrent)) => {}
            Err(Some(refusal)) => return Err(Failure::transient(refusal)),
            Err(None) => {
                context.count("fence-failed");
                return Err(Failure::transient("fencing timed out"));
            }
        }
    }
    Err(Failure::transient("fencing takes too long"))
}

/// The newest committed checkpoint: waits until everything below the partition's end is settled,
/// and reads until it has come to that end.
async fn read_latest(context: &Context) -> Result<Option<Checkpoint>, Failure> {
    let until = context.elapsed() + READ_PATIENCE;
    let mut high = None;
    while context.elapsed() < until {
        pause().await;
        let step = context.with(|world| {
            let (now, partition) = (world.clock.elapsed(), world.broker.checkpoints());
            if world.dice.per_mille(world.requests.read) {
                world.trace.count("read-failed");
                return Err(Failure::transient("the checkpoint can't be read"));
            }
            let Ok(stable) = world.broker.stable_offset(partition, now) else {
                return Ok(None);
            };
            if high.is_none() {
                high = world.broker.high_watermark(partition, now).ok();
            }
            let early = world.dice.per_mille(world.requests.early_end);
            let end = if early {
                world.dice.index(0..stable + 1)
            } else {
                stable
            };
            Ok(Some(end))
        })?;
        let (Some(end), Some(high)) = (step, high) else {
            continue;
        };
        if end >= high || context.has(Bug::TrustsEarlyEnd) {
            return newest_below(context, end);
        }
        context.count("read-waits");
    }
    Err(Failure::transient("reading the checkpoint takes too long"))
}

fn newest_below(context: &Context, end: usize) -> Result<Option<Checkpoint>, Failure> {
    context.with(|world| {
        let partition = world.broker.checkpoints();
        let newest = world.broker.committed(partition, end).last();
        let value = newest.and_then(|stored| stored.message.value.as_deref());
        value
            .map(Checkpoint::decode)
            .transpose()
            .map_err(Failure::transient)
    })
}
