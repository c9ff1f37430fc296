//! Lanes with a transactional producer.

use std::time::Duration;

use super::client::Client;
use super::lane::{Command, LaneEnd, Report};
use super::outbound::Outbound;
use super::{Bug, Context, Failure};
use crate::broker::{Ended, Message, PartitionId, Refusal};
use crate::task::pause;
use crate::world::Life;

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
    client: Client,
    lane: LaneEnd,
    /// The last window's records, for the bug that repeats them.
    repeatable: Vec<(PartitionId, Message)>,
    /// The last window's checkpoint, for the bug that commits it without its events.
    last_checkpoint: Option<Message>,
}

/// The lane's thread.
pub(super) async fn run(context: Context, client: Client, lane: LaneEnd) {
    let mut writer = Writer {
        context,
        client,
        lane,
        repeatable: Vec::new(),
        last_checkpoint: None,
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
                Err(failure) => return writer.lane.report(failure.into()),
            },
            Ok(None) => return,
            Err(failure) => return writer.lane.report(failure.into()),
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
                exceptions,
            } => {
                let mut out = Outbound::default();
                self.client.queue(&batch, &mut out);
                self.queue_exceptions(exceptions, &mut out);
                let delivered = self.produce_window(out, checkpoint).await?;
                Ok(delivered.then_some(Report::Acknowledged { window, batch }))
            }
            Command::Commit { window } => {
                let done = self.context.has(Bug::CommitsOutOfTurn) || self.commit().await?;
                Ok(done.then_some(Report::Committed { window }))
            }
            Command::Record {
                checkpoint,
                exceptions,
            } => {
                let mut out = Outbound::default();
                self.queue_exceptions(exceptions, &mut out);
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

    fn queue_exceptions(&self, exceptions: Vec<Message>, out: &mut Outbound) {
        if self.context.has(Bug::ForgetsExceptions) {
            return;
        }
        let partition = self.context.with(|world| world.broker.exceptions());
        for exception in exceptions {
            out.push(partition, exception);
        }
    }

    fn queue_checkpoint(&mut self, checkpoint: Vec<u8>, out: &mut Outbound) {
        let partition = self.context.with(|world| world.broker.checkpoints());
        let message = Message::checkpoint(checkpoint);
        if self.context.has(Bug::DropsFailedWindows) {
            self.last_checkpoint = Some(message.clone());
        }
        out.push(partition, message);
    }

    fn write_checkpoint_outside(&self, checkpoint: Vec<u8>) {
        self.context.with(|world| {
            let (now, partition) = (world.clock.elapsed(), world.broker.checkpoints());
            let producer = world.broker.idempotent();
            let message = vec![Message::checkpoint(checkpoint)];
            let _ = world.broker.produce(&producer, partition, 0, message, now);
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
            match self.client.send_some(&mut out) {
                Ok(()) => {}
                Err(Refusal::Unavailable | Refusal::Retriable | Refusal::Concurrent) => {
                    self.try_again(since)?;
                }
                Err(Refusal::Rejected) if self.context.has(Bug::DropsFailedWindows) => {
                    out = Outbound::default();
                    let partition = self.context.with(|world| world.broker.checkpoints());
                    self.last_checkpoint
                        .iter()
                        .for_each(|c| out.push(partition, c.clone()));
                }
                Err(
                    refusal @ (Refusal::Fenced
                    | Refusal::NoTransaction
                    | Refusal::OutOfOrder
                    | Refusal::Rejected
                    | Refusal::Unacceptable(_)
                    | Refusal::Missing(_)
                    | Refusal::Denied(_)),
                ) => {
                    let events = self.client.take_named();
                    return Err(Failure::refused(refusal, events, &self.context));
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
                Err(Refusal::Unavailable | Refusal::Concurrent) => self.try_again(since)?,
                Err(refusal) => return Err(Failure::transient(refusal)),
            }
        }
    }

    /// One EndTxn, with what can befall it.
    fn try_to_end(&mut self) -> Result<Answer, Refusal> {
        let befallen = self.context.with(|world| {
            let lost = world.befalls(|faults| faults.end_lost, "end-lost");
            (
                lost,
                world.befalls(|faults| faults.end_delayed, "end-delayed"),
            )
        });
        match befallen {
            (true, _) => return Ok(Answer::Unknown),
            (false, true) => {
                self.deliver_late();
                return Ok(Answer::Unknown);
            }
            (false, false) => {}
        }
        let ended = self.client.commit()?;
        self.context.with(|world| {
            if ended == Ended::Before {
                world.trace.count("end-repeated");
            }
            if world.befalls(|faults| faults.end_unanswered, "end-unanswered") {
                return Ok(Answer::Unknown);
            }
            // librdkafka asks again by itself, and is told what has become of the first request.
            match world.befalls(|faults| faults.end_retried, "end-retried") {
                true => Err(Refusal::Unavailable),
                false => Ok(Answer::Committed),
            }
        })
    }

    /// The client has given up, and the request arrives all the same: perhaps when a successor has
    /// already been fenced in, which makes it one of an older epoch.
    fn deliver_late(&self) {
        let (context, producer) = (self.context.clone(), self.client.producer.clone());
        self.context.post(Box::pin(async move {
            let rarely = context.with(|world| world.dice.number(8..80));
            while !context.with(|world| world.dice.one_in(rarely)) {
                pause().await;
            }
            let ended = context.with(|world| {
                let now = world.clock.elapsed();
                world.broker.commit(&producer, now)
            });
            match ended {
                Ok(Ended::Now) => context.count("end-arrived-late"),
                Err(Refusal::Fenced) => context.count("end-arrived-fenced"),
                Ok(Ended::Before) | Err(_) => {}
            }
        }));
    }
}
