//! Where windows go. Each lane is a thread that owns one producer; the state machine says what
//! happens in which order, and a lane only carries it out.

mod checkpoints;
mod committed;
pub(crate) mod complaints;
mod error;
mod fencing;
mod idempotent;
pub mod kafka;
mod lane;
mod prober;
mod stdout;
mod topics;
mod transactional;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use delivery::{Answer, Checkpoint, Exception, Identity, Kind, Refusal, ServerFacts, WindowId};
use envelope::RecordBatch;
use pgoutput::Lsn;
use tokio::sync::mpsc;

use crate::config::{Mode, Pipeline, SinkKind};
use crate::failure::Failure;

use prober::Prober;

pub use checkpoints::{
    PARTITIONS as CHECKPOINT_PARTITIONS, Recorded, read_first_covering, read_latest, read_settled,
};
pub(crate) use committed::{Committed, Look};
pub use lane::{Command, Lane};
pub use topics::Directory;

/// What a lane has done.
#[derive(Debug)]
pub enum Report {
    /// Every record of the window is acknowledged; the buffer comes back.
    Acknowledged {
        /// The window.
        window: WindowId,
        /// Its buffer.
        batch: RecordBatch,
    },
    /// The window's transaction is known to be committed.
    Committed {
        /// The window.
        window: WindowId,
    },
    /// A checkpoint written beside the events is committed.
    Recorded,
    /// The brokers were asked about a topic.
    Answered {
        /// The topic.
        topic: String,
        /// What they say.
        answer: Answer,
    },
    /// A window was refused. The session cannot go on.
    Refused(Failure, Refusal),
    /// The session cannot go on; what was under way has an unknown outcome.
    Failed(Failure),
    /// librdkafka is in trouble and goes on trying.
    Trouble(Failure),
}

/// Lanes to Kafka (or to standard output), and their reports.
pub struct Sink {
    lanes: Vec<Lane>,
    recorder: Option<Lane>,
    prober: Prober,
    reports: mpsc::UnboundedReceiver<Report>,
    abandoned: Arc<AtomicBool>,
}

impl Sink {
    /// Opens the lanes. With Kafka this fences every older relay of this pipeline and then reads
    /// the newest checkpoint: in this order, or the older relay could commit after the reading.
    pub async fn open(
        pipeline: &Pipeline,
        identity: &Identity,
    ) -> Result<(Self, Recorded), Failure> {
        let (reports_tx, reports) = mpsc::unbounded_channel();
        let abandoned = Arc::default();
        let mut sink = Self {
            lanes: Vec::new(),
            recorder: None,
            prober: Prober::new(pipeline, &reports_tx),
            reports,
            abandoned,
        };
        if pipeline.sink == SinkKind::Stdout {
            sink.lanes = vec![Lane::spawn(
                "stdout",
                &reports_tx,
                &sink.abandoned,
                stdout::run,
            )];
            return Ok((sink, Recorded::default()));
        }
        let directory = Directory::connect(pipeline).await?;
        directory.require_checkpoint_topic()?;
        tracing::debug!(pipeline = pipeline.name, "topics known");
        let recorded = match pipeline.mode {
            Mode::ExactlyOnce => {
                let (producers, recorded) =
                    fencing::take_over(pipeline, identity, pipeline.concurrency).await?;
                for producer in producers {
                    sink.lanes
                        .push(sink.transactional(producer, pipeline, &reports_tx));
                }
                recorded
            }
            Mode::AtLeastOnce => {
                let (producers, recorded) = fencing::take_over(pipeline, identity, 1).await?;
                for producer in producers {
                    sink.recorder = Some(sink.transactional(producer, pipeline, &reports_tx));
                }
                let producer = idempotent::open(pipeline)?;
                let topic = pipeline.kafka.checkpoint_topic.clone();
                sink.lanes = vec![Lane::spawn(
                    "producer",
                    &reports_tx,
                    &sink.abandoned,
                    move |end| idempotent::run(producer, end, &topic),
                )];
                recorded
            }
        };
        Ok((sink, recorded))
    }

    fn transactional(
        &self,
        producer: producer::Producer,
        pipeline: &Pipeline,
        reports: &mpsc::UnboundedSender<Report>,
    ) -> Lane {
        let topic = pipeline.kafka.checkpoint_topic.clone();
        let timeout = pipeline.kafka.transaction_timeout;
        Lane::spawn("transactional", reports, &self.abandoned, move |end| {
            transactional::run(producer, end, &topic, timeout);
        })
    }

    /// Sends a window on its way.
    pub fn produce(
        &self,
        window: WindowId,
        batch: RecordBatch,
        checkpoint: Option<&Checkpoint>,
        exceptions: &[Exception],
    ) {
        let checkpoint = checkpoint.map(Checkpoint::encode);
        self.lane(window).send(Command::Produce {
            window,
            batch,
            checkpoint,
            exceptions: encode(exceptions),
        });
    }

    /// Commits a window whose records are acknowledged.
    pub fn commit(&self, window: WindowId) {
        self.lane(window).send(Command::Commit { window });
    }

    /// Writes a checkpoint in a transaction of its own.
    pub fn record(&self, checkpoint: &Checkpoint, exceptions: &[Exception]) {
        let lane = self.recorder.as_ref().unwrap_or(&self.lanes[0]);
        lane.send(Command::Record {
            checkpoint: checkpoint.encode(),
            exceptions: encode(exceptions),
        });
    }

    /// Asks the brokers about a topic; reports [`Report::Answered`].
    pub fn ask(&mut self, topic: String) {
        self.prober.ask(topic);
    }

    /// The next report; cancel-safe.
    pub async fn report(&mut self) -> Report {
        match self.reports.recv().await {
            Some(report) => report,
            None => Report::Failed(Failure::new("internal", "every lane to the sink has ended")),
        }
    }

    /// Writes a checkpoint and waits until it is committed.
    pub async fn record_now(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        self.record(checkpoint, &[]);
        loop {
            match self.report().await {
                Report::Recorded => return Ok(()),
                Report::Failed(failure) | Report::Refused(failure, _) => return Err(failure),
                Report::Trouble(_)
                | Report::Answered { .. }
                | Report::Acknowledged { .. }
                | Report::Committed { .. } => {}
            }
        }
    }

    fn lane(&self, window: WindowId) -> &Lane {
        let count = self.lanes.len() as u64;
        &self.lanes[(window.0 % count) as usize]
    }
}

impl Drop for Sink {
    /// Lanes end by themselves, once the call that they are in returns.
    fn drop(&mut self) {
        self.abandoned
            .store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

fn encode(exceptions: &[Exception]) -> lane::Exceptions {
    let record = |exception: &Exception| (exception.key(), exception.value());
    exceptions.iter().map(record).collect()
}

/// A checkpoint that is not progress: intent or genesis.
pub fn opening_checkpoint(
    kind: Kind,
    facts: &ServerFacts,
    at: Lsn,
    pipeline: &Pipeline,
) -> Checkpoint {
    Checkpoint {
        format: delivery::CHECKPOINT_FORMAT,
        kind,
        identity: facts.identity.clone(),
        position: None,
        floor: Lsn::INVALID,
        confirmed_up_to: at,
        settled_below: Lsn::INVALID,
        feed: None,
        fingerprint: facts.fingerprint,
        coverage: Some(facts.coverage.clone()),
        whole_tables: BTreeSet::new(),
        exceptions: None,
        producers: pipeline.concurrency,
        transactional_id_prefix: Some(pipeline.kafka.transactional_id_prefix.clone()),
        relay_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
