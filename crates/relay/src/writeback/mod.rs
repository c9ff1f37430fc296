//! Writes outcomes back to the outbox tables: PENDING → SENT or FAILED.
//!
//! ```text
//!  driver ── submit(marks) ──► worker ──► UPDATE … WHERE state = 'PENDING' ──► done(marks) ──► driver
//!                              (task)     once their transactions are visible
//! ```
//!
//! It works on a connection and in a task of its own, so that publishing never waits for it. What it
//! can't write it tries again without end; until it is done the slot is not confirmed past those
//! rows, so a crash in between only means that they are streamed and written again. It decides
//! nothing: who is submitted, and how much may be pending, is up to the state machine.

mod batch;
mod correction;
pub(crate) mod error;
mod session;
pub(crate) mod snapshot;
mod standbys;
mod statement;
pub(crate) mod table;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;

use delivery::Marks;
use envelope::TableId;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::worker::Worker;
use crate::config::{self, Pipeline};
use crate::pipeline::Context;
use crate::telemetry::{Vitals, WriteBackMetrics};

pub use correction::Correction;
pub use session::Server;
pub use table::check;

/// Marks that have been written, or are to be.
#[derive(Debug)]
pub struct Done {
    /// What they were submitted as.
    pub id: u64,
    /// The buffer.
    pub marks: Marks,
}

/// The write-back of one session. What is not done when it is dropped is left as it is.
pub struct WriteBack {
    submitted: UnboundedSender<Done>,
    done: UnboundedReceiver<Done>,
    task: JoinHandle<()>,
    hurry: Arc<Notify>,
    vitals: Arc<Vitals>,
    metrics: WriteBackMetrics,
    pending: usize,
}

impl WriteBack {
    /// Starts the task, on the runtime that this is called on. It connects to `server` when there is
    /// something to write.
    pub fn start(context: &Context, server: Server) -> Self {
        let (submitted, to_worker) = unbounded_channel();
        let (from_worker, done) = unbounded_channel();
        let metrics = context.metrics.write_back();
        let hurry = Arc::new(Notify::new());
        let worker = Worker {
            pipeline: context.pipeline.clone(),
            server,
            modes: modes(&context.pipeline),
            pace: context.sharing.write_back_pace(),
            due: Instant::now(),
            hurry: Arc::clone(&hurry),
            hurries: false,
            vitals: Arc::clone(&context.vitals),
            metrics: metrics.clone(),
            session: None,
        };
        Self {
            submitted,
            done,
            task: tokio::spawn(worker.run(to_worker, from_worker)),
            hurry,
            vitals: Arc::clone(&context.vitals),
            metrics,
            pending: 0,
        }
    }

    /// Has marks written, after those that were submitted before.
    pub fn submit(&mut self, id: u64, marks: Marks) {
        self.pending += marks.len();
        self.metrics.pending(self.pending);
        // The task ends by a panic only, and `done` passes that on.
        let _ = self.submitted.send(Done { id, marks });
    }

    /// From now on nothing waits so that more may gather.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// What has been written next, in the order in which it was submitted; cancel-safe. Waits for
    /// ever while there is nothing.
    pub async fn done(&mut self) -> Done {
        let Some(done) = self.done.recv().await else {
            if let Err(ended) = (&mut self.task).await
                && ended.is_panic()
            {
                std::panic::resume_unwind(ended.into_panic());
            }
            return std::future::pending().await;
        };
        self.pending -= done.marks.len();
        self.metrics.pending(self.pending);
        done
    }

    /// Rows that have been submitted and are not done.
    pub fn pending_rows(&self) -> usize {
        self.pending
    }
}

/// What the tables that are told anything are told.
fn modes(pipeline: &Pipeline) -> BTreeMap<TableId, config::WriteBack> {
    let tables = pipeline.written_back();
    tables.map(|(id, _, state)| (id, state.mode)).collect()
}

impl Drop for WriteBack {
    fn drop(&mut self) {
        self.task.abort();
        self.metrics.pending(0);
        self.vitals.write_back_ended();
    }
}
