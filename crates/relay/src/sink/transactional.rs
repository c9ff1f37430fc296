//! Lanes with a transactional producer.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use delivery::WindowId;
use envelope::RecordBatch;
use producer::{ProduceError, Producer, Record};

use super::lane::{Command, LaneEnd, Next};
use super::{Directory, Report, error, kafka};
use crate::config::Pipeline;
use crate::failure::Failure;

/// How long acquiring a transactional id may take before the session is tried anew.
const FENCE_PATIENCE: Duration = Duration::from_secs(15);
/// How often an idle producer's events are served.
const IDLE: Duration = Duration::from_millis(200);
/// How often a waiting lane looks whether its session still exists.
const STEP: Duration = Duration::from_millis(100);
/// Key of every checkpoint record: compaction keeps the newest.
const CHECKPOINT_KEY: &[u8] = b"checkpoint";
/// The checkpoint topic's only partition.
const CHECKPOINT_PARTITION: i32 = 0;

/// Acquires transactional ids, at the same time, each on a thread of its own.
pub(super) async fn fence(
    pipeline: &Pipeline,
    ids: Range<usize>,
) -> Result<Vec<Producer>, Failure> {
    let pipeline = Arc::new(pipeline.clone());
    let acquire = |id: usize| {
        let pipeline = Arc::clone(&pipeline);
        tokio::task::spawn_blocking(move || acquire(&pipeline, id))
    };
    let mut producers = Vec::with_capacity(ids.len());
    for acquiring in ids.map(acquire).collect::<Vec<_>>() {
        let acquired = acquiring.await;
        producers.push(acquired.map_err(|e| Failure::caused("internal", "fencing", &e))??);
    }
    Ok(producers)
}

fn acquire(pipeline: &Pipeline, id: usize) -> Result<Producer, Failure> {
    let kafka = &pipeline.kafka;
    let fixed = [
        (
            "transactional.id",
            format!("{}.{id}", kafka.transactional_id_prefix),
        ),
        (
            "transaction.timeout.ms",
            kafka.transaction_timeout.as_millis().to_string(),
        ),
        (
            "message.timeout.ms",
            kafka.transaction_timeout.as_millis().to_string(),
        ),
    ];
    let properties = kafka::producer_config(pipeline, &fixed);
    let borrowed = properties
        .iter()
        .map(|(name, value)| (*name, value.as_str()));
    let mut producer = Producer::new(borrowed).map_err(|e| error::create(&e))?;
    match producer.init_transactions(FENCE_PATIENCE) {
        Ok(()) => Ok(producer),
        Err(e) => {
            producer.poll(Duration::ZERO);
            // A timeout says little; the client's last error says why.
            let trouble = producer.take_client_error().map(|e| error::trouble(&e));
            let failure = error::transaction(&e);
            Err(match trouble {
                Some(trouble) if failure.is_transient() => Failure {
                    code: trouble.code,
                    message: format!("{}: {}", failure.message, trouble.message),
                },
                _ => failure,
            })
        }
    }
}

/// The lane's thread.
pub(super) fn run(
    mut producer: Producer,
    mut lane: LaneEnd,
    directory: &Directory,
    checkpoint_topic: &str,
    timeout: Duration,
) {
    let writer = Writer {
        directory,
        checkpoint_topic,
        timeout,
    };
    loop {
        let outcome = match lane.next(IDLE) {
            Next::Over => return,
            Next::Idle => {
                producer.poll(Duration::ZERO);
                report_trouble(&mut producer, &lane);
                continue;
            }
            Next::Command(command) => writer.carry_out(command, &mut producer, &lane),
        };
        match outcome {
            Ok(Some(report)) => lane.report(report),
            Ok(None) => return,
            Err(failure) => {
                lane.report(Report::Failed(failure));
                return;
            }
        }
    }
}

struct Writer<'a> {
    directory: &'a Directory,
    checkpoint_topic: &'a str,
    timeout: Duration,
}

impl Writer<'_> {
    /// Carries a command out; `None` when the session has gone meanwhile.
    fn carry_out(
        &self,
        command: Command,
        producer: &mut Producer,
        lane: &LaneEnd,
    ) -> Result<Option<Report>, Failure> {
        match command {
            Command::Produce {
                window,
                batch,
                checkpoint,
            } => self.produce(window, batch, checkpoint.as_deref(), producer, lane),
            Command::Commit { window } => {
                self.commit(producer)?;
                Ok(Some(Report::Committed { window }))
            }
            Command::Record { checkpoint } => {
                producer
                    .begin_transaction()
                    .map_err(|e| error::transaction(&e))?;
                self.queue_checkpoint(&checkpoint, producer)?;
                if !await_deliveries(producer, lane)? {
                    return Ok(None);
                }
                self.commit(producer)?;
                Ok(Some(Report::Recorded))
            }
        }
    }

    fn produce(
        &self,
        window: WindowId,
        batch: RecordBatch,
        checkpoint: Option<&[u8]>,
        producer: &mut Producer,
        lane: &LaneEnd,
    ) -> Result<Option<Report>, Failure> {
        self.directory.require_topics(&batch)?;
        producer
            .begin_transaction()
            .map_err(|e| error::transaction(&e))?;
        queue_batch(&batch, producer)?;
        if let Some(checkpoint) = checkpoint {
            self.queue_checkpoint(checkpoint, producer)?;
        }
        let delivered = await_deliveries(producer, lane)?;
        Ok(delivered.then_some(Report::Acknowledged { window, batch }))
    }

    fn queue_checkpoint(&self, value: &[u8], producer: &mut Producer) -> Result<(), Failure> {
        let record = Record {
            topic: self.checkpoint_topic,
            partition: Some(CHECKPOINT_PARTITION),
            key: Some(CHECKPOINT_KEY),
            value: Some(value),
            timestamp_ms: 0,
        };
        queue(&record, std::iter::empty(), producer)
    }

    /// After an error the outcome is unknown: the session ends, and the next one asks Kafka.
    fn commit(&self, producer: &mut Producer) -> Result<(), Failure> {
        producer
            .commit_transaction(self.timeout)
            .map_err(|e| error::transaction(&e))
    }
}

/// Hands every record of a window to librdkafka.
pub(super) fn queue_batch(batch: &RecordBatch, producer: &mut Producer) -> Result<(), Failure> {
    for event in batch.iter() {
        let record = Record {
            topic: event.topic,
            partition: None,
            key: event.key,
            value: event.value,
            timestamp_ms: event.timestamp_ms,
        };
        queue(&record, event.headers(), producer)?;
    }
    Ok(())
}

fn queue<'r, H>(record: &Record<'r>, headers: H, producer: &mut Producer) -> Result<(), Failure>
where
    H: Iterator<Item = (&'r str, Option<&'r [u8]>)> + Clone,
{
    loop {
        match producer.produce(record, headers.clone()) {
            Ok(()) => return Ok(()),
            Err(ProduceError::QueueFull) => {
                producer.poll(STEP);
            }
            Err(e) => return Err(error::produce(&e)),
        }
    }
}

/// Waits until every record is acknowledged; `false` when the session has gone meanwhile.
pub(super) fn await_deliveries(producer: &mut Producer, lane: &LaneEnd) -> Result<bool, Failure> {
    while producer.poll(STEP) > 0 {
        if lane.is_abandoned() {
            return Ok(false);
        }
        report_trouble(producer, lane);
        if let Some(failed) = producer.take_failure() {
            return Err(error::delivery(&failed));
        }
    }
    match producer.take_failure() {
        Some(failed) => Err(error::delivery(&failed)),
        None => Ok(true),
    }
}

/// Passes on what librdkafka complains about while it goes on trying.
pub(super) fn report_trouble(producer: &mut Producer, lane: &LaneEnd) {
    if let Some(trouble) = producer.take_client_error() {
        lane.report(Report::Trouble(error::trouble(&trouble)));
    }
}
