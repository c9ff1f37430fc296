//! The lane of at-least-once mode: one idempotent producer, several windows in flight.

use std::time::Duration;

use delivery::{RefusedEvent, WindowId};
use envelope::RecordBatch;
use producer::{InvalidRecord, Producer};

use super::error::Ended;
use super::lane::{Command, LaneEnd, Next};
use super::transactional::{await_reports, named, queue_batch, report_trouble};
use super::{Report, error, kafka};
use crate::config::Pipeline;
use crate::failure::Failure;

const IDLE: Duration = Duration::from_millis(200);
/// While records are out, new windows wait at most this long for the lane's attention.
const STEP: Duration = Duration::from_millis(1);

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
struct Pending {
    windows: Vec<Window>,
    /// Of the next record; each has one of its own.
    next_tag: usize,
}

struct Window {
    id: WindowId,
    batch: RecordBatch,
    /// Of its first record.
    first_tag: usize,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            windows: Vec::new(),
            next_tag: 1,
        }
    }
}

impl Pending {
    /// The events that the brokers have named.
    fn named(&self, invalid: &[InvalidRecord]) -> Vec<RefusedEvent> {
        let windows = self.windows.iter();
        windows
            .flat_map(|window| named(invalid, &window.batch, window.first_tag))
            .collect()
    }

    /// Reports the windows before the first record that was not delivered. Nothing is out any more.
    fn acknowledge(&mut self, lowest_failed: Option<usize>, lane: &LaneEnd) {
        for Window {
            id: window,
            batch,
            first_tag,
        } in self.windows.drain(..)
        {
            if lowest_failed.is_some_and(|failed| failed < first_tag + batch.len()) {
                return;
            }
            lane.report(Report::Acknowledged { window, batch });
        }
    }
}

/// The lane's thread.
pub(super) fn run(mut producer: Producer, mut lane: LaneEnd, checkpoint_topic: &str) {
    let mut pending = Pending::default();
    loop {
        let next = if pending.windows.is_empty() {
            lane.next(IDLE)
        } else {
            lane.try_next()
        };
        let outcome = match next {
            Next::Over => return,
            Next::Idle => Ok(()),
            Next::Command(command) => take(command, &mut producer, &mut pending, &lane),
        };
        let step = if pending.windows.is_empty() {
            Duration::ZERO
        } else {
            STEP
        };
        let served = outcome.and_then(|()| serve(&mut producer, &mut pending, &lane, step));
        if let Err(ended) = served {
            let events = finish(&mut producer, &mut pending, &lane);
            lane.report(ended.naming(events).report(checkpoint_topic));
            return;
        }
    }
}

/// A window that can't be published must not make those before it come again. Returns the events that
/// the brokers have named.
fn finish(producer: &mut Producer, pending: &mut Pending, lane: &LaneEnd) -> Vec<RefusedEvent> {
    await_reports(producer, lane);
    let events = pending.named(&producer.take_invalid());
    if producer.outstanding() == 0 {
        pending.acknowledge(producer.lowest_failed(), lane);
    }
    events
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
            let first_tag = pending.next_tag;
            pending.next_tag += batch.len();
            let queued = queue_batch(&batch, first_tag, producer, lane);
            // A record that was refused counts as one that was not delivered.
            if !matches!(queued, Ok(false)) {
                pending.windows.push(Window {
                    id: window,
                    batch,
                    first_tag,
                });
            }
            queued.map(drop)
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
    pending.acknowledge(None, lane);
    Ok(())
}

#[cfg(test)]
mod tests {
    use envelope::{Headers, Record, TableId};
    use pgoutput::{CommitLsn, Lsn, PgTimestamp, Position};
    use tokio::sync::mpsc;

    use super::super::lane::Lane;
    use super::*;

    fn window(id: u64, first_tag: usize, records: u64) -> Window {
        let mut batch = RecordBatch::new();
        for index in 0..records {
            let commit_lsn = CommitLsn(Lsn::from(id));
            batch.push(&Record {
                topic: "events",
                key: None,
                value: None,
                timestamp_ms: 0,
                event_id: "e",
                event_type: "",
                transfer_id: None,
                seq: None,
                table: TableId(0),
                position: Position { commit_lsn, index },
                commit_time: PgTimestamp(0),
                xid: 0,
                fate: envelope::Fate::Sent,
                headers: Headers::from(&[][..]),
            });
        }
        Window {
            id: WindowId(id),
            batch,
            first_tag,
        }
    }

    fn pending() -> Pending {
        Pending {
            windows: vec![window(0, 1, 3), window(1, 4, 2), window(2, 6, 1)],
            next_tag: 7,
        }
    }

    /// The windows that are acknowledged.
    fn acknowledged(lowest_failed: Option<usize>) -> Vec<u64> {
        let (reports, mut heard) = mpsc::unbounded_channel();
        let abandoned = std::sync::Arc::default();
        drop(Lane::spawn("test", &reports, &abandoned, move |lane| {
            pending().acknowledge(lowest_failed, &lane);
        }));
        drop(reports);
        let mut windows = Vec::new();
        while let Some(report) = heard.blocking_recv() {
            match report {
                Report::Acknowledged { window, .. } => windows.push(window.0),
                other => panic!("{other:?}"),
            }
        }
        windows
    }

    #[test]
    fn a_window_with_a_record_that_was_not_delivered_is_not_acknowledged() {
        assert_eq!(acknowledged(None), [0, 1, 2]);
        assert_eq!(acknowledged(Some(5)), [0]);
        assert_eq!(acknowledged(Some(6)), [0, 1]);
        assert_eq!(acknowledged(Some(3)), [0; 0]);
    }

    #[test]
    fn what_the_brokers_name_is_found_in_its_window() {
        let record = |tag| InvalidRecord {
            tag,
            message: "no key".into(),
        };
        let events = pending().named(&[record(5), record(3), record(0), record(7)]);
        let positions: Vec<_> = events.iter().map(|e| e.position.to_string()).collect();
        assert_eq!(positions, ["0/0:2", "0/1:1"]);
    }
}
