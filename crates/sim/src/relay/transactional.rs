//! Lanes with a transactional producer.

use std::time::Duration;

use super::lane::{Command, LaneEnd, Outbound, Report};
use super::{Bug, Context, Failure};
use crate::broker::{Message, PartitionId, Producer, Refusal};
use crate::task::pause;
use crate::world::Life;

/// Records of one request, at most.
const MOST_PER_REQUEST: usize = 6;
/// How long the client tries before it gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What has become of an EndTxn request.
enum Answer {
    Committed,
    /// A timeout: anything may have happened.
    Unknown,
    /// The lane is dead.
    Nothing,
}

struct Writer {
    context: Context,
    producer: Producer,
    lane: LaneEnd,
    /// The last window's records, for the bug that repeats them.
    repeatable: Vec<(PartitionId, Message)>,
}

/// The lane's thread.
pub(super) async fn run(context: Context, producer: Producer, lane: LaneEnd) {
    let mut writer = Writer {
        context,
        producer,
        lane,
        repeatable: Vec::new(),
    };
    loop {
        pause().await;
        let Some(command) = writer.lane.take() else {
            match writer.lane.life() {
                Life::Wanted => continue,
                Life::Abandoned | Life::Dead(_) => return,
            }
        };
        match writer.carry_out(command).await {
            Ok(Some(report)) => match writer.tell(report).await {
                Ok(()) => {}
                Err(failure) => return writer.lane.report(Report::Failed(failure)),
            },
            Ok(None) => return,
            Err(failure) => return writer.lane.report(Report::Failed(failure)),
        }
        writer.lane.rest();
    }
}

impl Writer {
    /// Tells the session; with one bug, an acknowledged window is committed without being asked.
    async fn tell(&mut self, report: Report) -> Result<(), Failure> {
        let is_acknowledged = matches!(report, Report::Acknowledged { .. });
        self.lane.report(report);
        if is_acknowledged && self.context.has(Bug::CommitsOutOfTurn) {
            self.commit().await?;
        }
        Ok(())
    }

    /// Carries a command out; `None` when the session or the process has gone meanwhile.
    async fn carry_out(&mut self, command: Command) -> Result<Option<Report>, Failure> {
        match command {
            Command::Produce {
                window,
                batch,
                checkpoint,
            } => {
                let mut out = Outbound::default();
                self.context
                    .with(|world| out.push_batch(&batch, &world.broker));
                let delivered = self.produce_window(out, checkpoint).await?;
                Ok(delivered.then_some(Report::Acknowledged { window, batch }))
            }
            Command::Commit { window } => {
                let done = self.context.has(Bug::CommitsOutOfTurn) || self.commit().await?;
                Ok(done.then_some(Report::Committed { window }))
            }
            Command::Record { checkpoint } => {
                let mut out = Outbound::default();
                self.queue_checkpoint(checkpoint, &mut out);
                let done = self.produce(out).await? && self.commit().await?;
                Ok(done.then_some(Report::Recorded))
            }
        }
    }

    async fn produce_window(
        &mut self,
        mut out: Outbound,
        checkpoint: Option<Vec<u8>>,
    ) -> Result<bool, Failure> {
        if let Some(checkpoint) = checkpoint {
            if self.context.has(Bug::CheckpointsOutside) {
                self.write_checkpoint_outside(checkpoint);
            } else {
                self.queue_checkpoint(checkpoint, &mut out);
            }
        }
        if self.context.has(Bug::CommitsInPieces) {
            let first = out.first_half();
            if !(self.produce(first).await? && self.commit().await?) {
                return Ok(false);
            }
        }
        if self.context.has(Bug::RepeatsUnknownCommits) {
            self.repeatable = out.copy();
        }
        self.produce(out).await
    }

    fn queue_checkpoint(&self, checkpoint: Vec<u8>, out: &mut Outbound) {
        let partition = self.context.with(|world| world.broker.checkpoints());
        out.push(partition, Message::checkpoint(checkpoint));
    }

    fn write_checkpoint_outside(&self, checkpoint: Vec<u8>) {
        self.context.with(|world| {
            let (now, partition) = (world.clock.elapsed(), world.broker.checkpoints());
            let producer = world.broker.idempotent();
            let message = std::iter::once(Message::checkpoint(checkpoint));
            let _ = world.broker.produce(&producer, partition, message, now);
        });
    }

    /// Sends records until all are acknowledged; `false` when nobody waits for that any more.
    async fn produce(&mut self, mut out: Outbound) -> Result<bool, Failure> {
        let since = self.context.elapsed();
        while !out.is_empty() {
            pause().await;
            let gives_up = self.lane.life() == Life::Abandoned
                && self.context.with(|world| world.dice.one_in(4));
            if gives_up || !self.lane.sends() {
                return Ok(false);
            }
            match send_some(&self.context, &self.producer, &mut out) {
                Ok(()) => {}
                Err(Refusal::Unavailable | Refusal::Concurrent) => self.try_again(since)?,
                Err(refusal @ (Refusal::Fenced | Refusal::NoTransaction)) => {
                    return Err(Failure::transient(refusal));
                }
            }
        }
        pause().await;
        Ok(true)
    }

    fn try_again(&self, since: Duration) -> Result<(), Failure> {
        if self.context.with(|world| world.dice.one_in(20)) {
            self.lane.report(Report::Trouble);
        }
        if self.context.elapsed() > since + PATIENCE {
            return Err(Failure::transient("the broker took too long"));
        }
        Ok(())
    }

    /// Commits; `false` when the process is dead. After an error the outcome is unknown.
    async fn commit(&mut self) -> Result<bool, Failure> {
        match self.end_transaction().await? {
            Answer::Committed => Ok(true),
            Answer::Nothing => Ok(false),
            Answer::Unknown if self.context.has(Bug::BelievesUnknownCommits) => Ok(true),
            Answer::Unknown if self.context.has(Bug::RepeatsUnknownCommits) => {
                let mut again = Outbound::default();
                for (partition, message) in self.repeatable.drain(..) {
                    again.push(partition, message);
                }
                let repeated = self.produce(again).await?;
                Ok(repeated && matches!(self.end_transaction().await?, Answer::Committed))
            }
            Answer::Unknown => Err(Failure::transient("the outcome of a commit is unknown")),
        }
    }

    async fn end_transaction(&mut self) -> Result<Answer, Failure> {
        let since = self.context.elapsed();
        pause().await;
        if matches!(self.lane.life(), Life::Dead(_)) {
            return Ok(Answer::Nothing);
        }
        loop {
            // From here on the request is on the wire, and arrives though the process die.
            pause().await;
            if !self.lane.sends() {
                return Ok(Answer::Nothing);
            }
            match self.try_to_end() {
                Ok(answer) => {
                    pause().await;
                    return Ok(answer);
                }
                Err(Refusal::Unavailable) => self.try_again(since)?,
                Err(refusal) => return Err(Failure::transient(refusal)),
            }
        }
    }

    /// One EndTxn, with what can befall it.
    fn try_to_end(&self) -> Result<Answer, Refusal> {
        let delayed = self.context.with(|world| {
            let (faults, now) = (world.requests, world.clock.elapsed());
            if world.dice.per_mille(faults.end_lost) {
                world.trace.count("end-lost");
                return Ok(Some(false));
            }
            if world.dice.per_mille(faults.end_delayed) {
                world.trace.count("end-delayed");
                return Ok(Some(true));
            }
            world.broker.commit(&self.producer, now)?;
            if world.dice.per_mille(faults.end_unanswered) {
                world.trace.count("end-unanswered");
                return Ok(Some(false));
            }
            Ok(None)
        })?;
        match delayed {
            None => Ok(Answer::Committed),
            Some(late) => {
                if late {
                    self.deliver_late();
                }
                Ok(Answer::Unknown)
            }
        }
    }

    fn deliver_late(&self) {
        let (context, producer) = (self.context.clone(), self.producer.clone());
        self.context.post(Box::pin(async move {
            while !context.with(|world| world.dice.one_in(12)) {
                pause().await;
            }
            let done = context.with(|world| {
                let now = world.clock.elapsed();
                world.broker.commit(&producer, now)
            });
            if done.is_ok() {
                context.count("end-arrived-late");
            }
        }));
    }
}

/// One produce request.
pub(super) fn send_some(
    context: &Context,
    producer: &Producer,
    out: &mut Outbound,
) -> Result<(), Refusal> {
    context.with(|world| {
        if world.dice.per_mille(world.requests.produce) {
            world.trace.count("produce-refused");
            return Err(Refusal::Fenced);
        }
        let (choice, now) = (world.dice.index(0..64), world.clock.elapsed());
        let most = world.dice.index(1..MOST_PER_REQUEST + 1);
        let Some((partition, messages)) = out.request(choice, most) else {
            return Ok(());
        };
        let count = messages.len();
        world
            .broker
            .produce(producer, partition, messages.into_iter(), now)?;
        out.taken(partition, count);
        Ok(())
    })
}
