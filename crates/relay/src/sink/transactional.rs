//! Lanes with a transactional producer.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use delivery::{RefusedEvent, WindowId};
use envelope::{Fate, RecordBatch};
use producer::{DeliveryError, InvalidRecord, ProduceError, Producer, Record};

use super::checkpoints::{self, CHECKPOINT_KEY, Claim};
use super::error::Ended;
use super::lane::{Command, Exceptions, LaneEnd, Next};
use super::{Report, error, kafka};
use crate::config::Pipeline;
use crate::failure::Failure;

/// How long acquiring a transactional id may take before the session is tried anew.
const FENCE_PATIENCE: Duration = Duration::from_secs(15);
/// How often an idle producer's events are served.
const IDLE: Duration = Duration::from_millis(200);
/// librdkafka knows why a transaction has failed.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// After a failure, for the reports of what else is on its way.
const REPORTED_WITHIN: Duration = Duration::from_secs(1);
/// How often a waiting lane looks whether its session still exists.
const STEP: Duration = Duration::from_millis(100);

/// Acquires transactional ids one after the other, the first one first.
///
/// The order matters: two relays that acquire at the same time in any order can end up with one id
/// each, both believing to have fenced the other. In this order whoever acquires the first id after
/// another relay has used it acquires all the others after that relay, too (model: rule
/// `FenceInOrder`).
pub(super) async fn fence(
    pipeline: &Pipeline,
    prefix: &str,
    ids: Range<usize>,
) -> Result<Vec<Producer>, Failure> {
    let pipeline = pipeline.clone();
    let names: Vec<String> = ids.map(|number| format!("{prefix}.{number}")).collect();
    let wanted = Wanted::default();
    let is_wanted = Arc::clone(&wanted.0);
    let acquiring = tokio::task::spawn_blocking(move || {
        // Connecting takes longer than acquiring, and may happen at the same time.
        let created = names.into_iter().map(|id| create(&pipeline, id));
        let mut producers = created.collect::<Result<Vec<_>, _>>()?;
        for producer in &mut producers {
            if !is_wanted.load(Ordering::Relaxed) {
                break;
            }
            acquire(producer)?;
        }
        Ok(producers)
    });
    acquiring
        .await
        .map_err(|e| Failure::caused("internal", "fencing", &e))?
}

/// Turns false with the session: who does not hold the slot any more must not go on fencing.
struct Wanted(Arc<AtomicBool>);

impl Default for Wanted {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn create(pipeline: &Pipeline, id: String) -> Result<Producer, Failure> {
    let timeout = pipeline.kafka.transaction_timeout.as_millis().to_string();
    let fixed = [
        ("transactional.id", id),
        ("transaction.timeout.ms", timeout.clone()),
        ("message.timeout.ms", timeout),
    ];
    let properties = kafka::producer_config(pipeline, &fixed);
    let borrowed = properties
        .iter()
        .map(|(name, value)| (*name, value.as_str()));
    Producer::new(borrowed).map_err(|e| error::create(&e))
}

fn acquire(producer: &mut Producer) -> Result<(), Failure> {
    let Err(e) = producer.init_transactions(FENCE_PATIENCE) else {
        return Ok(());
    };
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

/// Commits a claim with the first producer, in each partition that is read up to it, and gives the producers back.
pub(super) async fn claim(
    pipeline: &Pipeline,
    mut producers: Vec<Producer>,
    claim: &Claim,
) -> Result<Vec<Producer>, Failure> {
    let (topic, value) = (pipeline.kafka.checkpoint_topic.clone(), claim.value());
    let claiming = tokio::task::spawn_blocking(move || {
        if let Some(producer) = producers.first_mut() {
            let records = [
                checkpoints::checkpoint_record(&topic, Claim::KEY, &value),
                checkpoints::exception_record(&topic, Claim::KEY, Some(&value)),
            ];
            commit_alone(&records, producer)?;
        }
        Ok(producers)
    });
    claiming
        .await
        .map_err(|e| Failure::caused("internal", "claiming the checkpoint topic", &e))?
}

/// Commits some records in a transaction of their own.
fn commit_alone(records: &[Record<'_>], producer: &mut Producer) -> Result<(), Failure> {
    let until = Instant::now() + FENCE_PATIENCE;
    producer
        .begin_transaction()
        .map_err(|e| error::transaction(&e))?;
    for record in records {
        producer
            .produce(record, std::iter::empty())
            .map_err(|e| error::produce(&e).at_checkpoint())?;
    }
    while producer.poll(STEP) > 0 && Instant::now() < until {}
    if let Some(failed) = producer.take_failure() {
        return Err(error::delivery(&failed).at_checkpoint());
    }
    let patience = until.saturating_duration_since(Instant::now());
    // The next transaction of this producer is the first window.
    match commit(producer, patience)? {
        None => Ok(()),
        Some(retried) => Err(retried),
    }
}

/// Commits; after an error the outcome is unknown: the session ends, and the next one asks Kafka.
///
/// librdkafka sends the request again by itself when a connection closes. The first one may still
/// arrive, and would end whatever transaction this producer has open by then (KIP-890): half a
/// window, with its checkpoint. So after a commit that may have been asked for twice (the failure
/// that is returned) the producer must not be used again (test: scenario `late-commit`).
fn commit(producer: &mut Producer, patience: Duration) -> Result<Option<Failure>, Failure> {
    let closed = producer.connections_closed();
    producer
        .commit_transaction(patience)
        .map_err(|e| error::transaction(&e))?;
    let asked_once = producer.connections_closed() == closed;
    Ok((!asked_once).then(|| {
        let message = "a connection was lost during a commit, which may be asked for twice";
        Failure::new("kafka-unreachable", message)
    }))
}

/// The lane's thread.
pub(super) fn run(
    mut producer: Producer,
    mut lane: LaneEnd,
    checkpoint_topic: &str,
    timeout: Duration,
) {
    let writer = Writer {
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
            Err(ended) => {
                lane.report(ended.report(checkpoint_topic));
                return;
            }
        }
    }
}

struct Writer<'a> {
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
    ) -> Result<Option<Report>, Ended> {
        match command {
            Command::Produce {
                window,
                batch,
                checkpoint,
                exceptions,
            } => {
                let recorded = (checkpoint.as_deref(), &exceptions);
                self.produce(window, batch, recorded, producer, lane)
            }
            Command::Commit { window } => {
                let retried = commit(producer, self.timeout)?;
                finished(Report::Committed { window }, retried, lane)
            }
            Command::Record {
                checkpoint,
                exceptions,
            } => {
                producer
                    .begin_transaction()
                    .map_err(|e| error::transaction(&e))?;
                let recorded = (Some(checkpoint.as_slice()), &exceptions);
                let queued = self.queue_recorded(recorded, producer, lane)?;
                if !queued || !await_deliveries(producer, lane)? {
                    return Ok(None);
                }
                let retried = commit(producer, self.timeout)?;
                finished(Report::Recorded, retried, lane)
            }
        }
    }

    fn produce(
        &self,
        window: WindowId,
        batch: RecordBatch,
        recorded: (Option<&[u8]>, &Exceptions),
        producer: &mut Producer,
        lane: &LaneEnd,
    ) -> Result<Option<Report>, Ended> {
        producer
            .begin_transaction()
            .map_err(|e| error::transaction(&e))?;
        let delivered = self.deliver(&batch, recorded, producer, lane);
        let delivered = delivered.map_err(|ended| {
            await_reports(producer, lane);
            ended.naming(named(&producer.take_invalid(), &batch, FIRST_TAG))
        })?;
        Ok(delivered.then_some(Report::Acknowledged { window, batch }))
    }

    fn deliver(
        &self,
        batch: &RecordBatch,
        recorded: (Option<&[u8]>, &Exceptions),
        producer: &mut Producer,
        lane: &LaneEnd,
    ) -> Result<bool, Ended> {
        let queued = queue_batch(batch, FIRST_TAG, producer, lane)?
            && self.queue_recorded(recorded, producer, lane)?;
        Ok(queued && await_deliveries(producer, lane)?)
    }

    fn queue_recorded(
        &self,
        (checkpoint, exceptions): (Option<&[u8]>, &Exceptions),
        producer: &mut Producer,
        lane: &LaneEnd,
    ) -> Result<bool, Ended> {
        let topic = self.checkpoint_topic;
        let exceptions = exceptions
            .iter()
            .map(|(key, value)| checkpoints::exception_record(topic, key, value.as_deref()));
        let checkpoint =
            checkpoint.map(|value| checkpoints::checkpoint_record(topic, CHECKPOINT_KEY, value));
        for record in exceptions.chain(checkpoint) {
            if !queue(&record, std::iter::empty(), producer, lane)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A commit is done; if it may have been sent twice, the session is over.
fn finished(
    report: Report,
    retried: Option<Failure>,
    lane: &LaneEnd,
) -> Result<Option<Report>, Ended> {
    match retried {
        None => Ok(Some(report)),
        Some(failure) => {
            lane.report(report);
            Err(failure.into())
        }
    }
}

/// `RD_KAFKA_RESP_ERR__STATE`: the transaction has to be aborted, so nothing more is taken in.
const STATE: i32 = -172;

/// The tag of the first record of a window in a transaction of its own.
const FIRST_TAG: usize = 1;

/// Of the records that brokers have named, the events of a window, whose first record has that tag.
pub(super) fn named(
    invalid: &[InvalidRecord],
    batch: &RecordBatch,
    first_tag: usize,
) -> Vec<RefusedEvent> {
    let event = |record: &InvalidRecord| {
        let event = batch.get(record.tag.checked_sub(first_tag)?)?;
        matches!(event.fate, Fate::Sent | Fate::Revived).then(|| RefusedEvent {
            position: event.position,
            id: event.event_id.to_owned(),
            reason: record.message.clone(),
        })
    };
    invalid.iter().filter_map(event).collect()
}

/// After a failure, waits for what is said of the other records.
pub(super) fn await_reports(producer: &mut Producer, lane: &LaneEnd) {
    let until = Instant::now() + REPORTED_WITHIN;
    while producer.poll(STEP) > 0 && Instant::now() < until && !lane.is_abandoned() {}
}

/// Hands every record of a window to librdkafka, with tags from this one on; `false` when the session
/// has gone meanwhile.
pub(super) fn queue_batch(
    batch: &RecordBatch,
    first_tag: usize,
    producer: &mut Producer,
    lane: &LaneEnd,
) -> Result<bool, Ended> {
    for (tag, event) in (first_tag..).zip(batch.iter()) {
        let record = Record {
            topic: event.topic,
            partition: None,
            key: event.key,
            value: event.value,
            timestamp_ms: event.timestamp_ms,
            tag,
        };
        if !queue(&record, event.headers(), producer, lane)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn queue<'r, H>(
    record: &Record<'r>,
    headers: H,
    producer: &mut Producer,
    lane: &LaneEnd,
) -> Result<bool, Ended>
where
    H: Iterator<Item = (&'r str, Option<&'r [u8]>)> + Clone,
{
    loop {
        match producer.produce(record, headers.clone()) {
            Ok(()) => return Ok(true),
            // As long as nothing is acknowledged, which may be as long as an outage.
            Err(ProduceError::QueueFull) => {
                producer.poll(STEP);
                report_trouble(producer, lane);
                if lane.is_abandoned() {
                    return Ok(false);
                }
            }
            // A delivery has failed, which is about to be reported.
            Err(ProduceError::Refused { code: STATE, .. })
                if producer.outstanding() > 0 && !await_deliveries(producer, lane)? =>
            {
                return Ok(false);
            }
            Err(e) => return Err(error::produce(&e)),
        }
    }
}

/// Waits until every record is acknowledged; `false` when the session has gone meanwhile.
pub(super) fn await_deliveries(producer: &mut Producer, lane: &LaneEnd) -> Result<bool, Ended> {
    while producer.poll(STEP) > 0 {
        if lane.is_abandoned() {
            return Ok(false);
        }
        report_trouble(producer, lane);
        if let Some(failed) = producer.take_failure() {
            return Err(why(&failed, producer));
        }
    }
    match producer.take_failure() {
        Some(failed) => Err(why(&failed, producer)),
        None => Ok(true),
    }
}

/// Of records that only follow a failed transaction, that one tells why.
fn why(failed: &DeliveryError, producer: &mut Producer) -> Ended {
    let aborted = match failed.is_consequence() {
        true => producer.transaction_error(TOLD_WITHIN),
        false => None,
    };
    aborted.map_or_else(|| error::delivery(failed), |e| error::aborted(&e))
}

/// Passes on what librdkafka complains about while it goes on trying.
pub(super) fn report_trouble(producer: &mut Producer, lane: &LaneEnd) {
    if let Some(trouble) = producer.take_client_error() {
        lane.report(Report::Trouble(error::trouble(&trouble)));
    }
}
