//! The lane of at-least-once mode: one idempotent producer, several windows in flight.

use std::time::{Duration, Instant};

use delivery::WindowId;
use envelope::RecordBatch;
use producer::Producer;

use super::error::Ended;
use super::lane::{Command, LaneEnd, Next};
use super::transactional::{queue_batch, report_trouble};
use super::{Report, error, kafka};
use crate::config::Pipeline;
use crate::failure::Failure;

const IDLE: Duration = Duration::from_millis(200);
/// While records are out, new windows wait at most this long for the lane's attention.
const STEP: Duration = Duration::from_millis(1);
/// After a failure, for what is on its way to be acknowledged.
const FINISH: Duration = Duration::from_secs(1);

/// Creates the producer. Its messages never time out: one that did would leave a gap, with later
/// ones delivered behind it.
pub(super) fn open(pipeline: &Pipeline) -> Result<Producer, Failure> {
    let fixed = [("message.timeout.ms", "0".to_owned())];
    let properties = kafka::producer_config(pipeline, &fixed);
    let borrowed = properties
        .iter()
        .map(|(name, value)| (*name, value.as_str()));
    Producer::new(borrowed).map_err(|e| error::create(&e))
}

/// Windows handed to the producer and not acknowledged yet.
type Pending = Vec<(WindowId, RecordBatch)>;

/// The lane's thread.
pub(super) fn run(mut producer: Producer, mut lane: LaneEnd, checkpoint_topic: &str) {
    let mut pending = Pending::new();
    loop {
        let next = if pending.is_empty() {
            lane.next(IDLE)
        } else {
            lane.try_next()
        };
        let outcome = match next {
            Next::Over => return,
            Next::Idle => Ok(()),
            Next::Command(command) => take(command, &mut producer, &mut pending, &lane),
        };
        let step = if pending.is_empty() {
            Duration::ZERO
        } else {
            STEP
        };
        if let Err(ended) = outcome.and_then(|()| serve(&mut producer, &mut pending, &lane, step)) {
            finish(&mut producer, &mut pending, &lane);
            lane.report(ended.report(checkpoint_topic));
            return;
        }
    }
}

/// A window that can't be published must not make those before it come again.
fn finish(producer: &mut Producer, pending: &mut Pending, lane: &LaneEnd) {
    let until = Instant::now() + FINISH;
    while !pending.is_empty() && Instant::now() < until && !lane.is_abandoned() {
        if serve(producer, pending, lane, STEP).is_err() {
            return;
        }
    }
}

fn take(
    command: Command,
    producer: &mut Producer,
    pending: &mut Pending,
    lane: &LaneEnd,
) -> Result<(), Ended> {
    match command {
        Command::Produce {
            window,
            batch,
            checkpoint: _,
            exceptions: _,
        } => {
            if queue_batch(&batch, producer, lane)? {
                pending.push((window, batch));
            }
            Ok(())
        }
        // Only a transactional lane is asked for these.
        Command::Commit { .. } | Command::Record { .. } => Ok(()),
    }
}

/// Reports the windows as acknowledged once nothing is out. Their number is bounded by the state
/// machine, so that moment comes.
fn serve(
    producer: &mut Producer,
    pending: &mut Pending,
    lane: &LaneEnd,
    step: Duration,
) -> Result<(), Ended> {
    let outstanding = producer.poll(step);
    report_trouble(producer, lane);
    if let Some(failed) = producer.take_failure() {
        return Err(error::delivery(&failed));
    }
    if outstanding > 0 {
        return Ok(());
    }
    for (window, batch) in pending.drain(..) {
        lane.report(Report::Acknowledged { window, batch });
    }
    Ok(())
}
