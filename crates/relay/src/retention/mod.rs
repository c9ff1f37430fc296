//! Removes published rows once they are old enough.
//!
//! ```text
//!  table ──► proof that rows are durable in Kafka ──► rows, in small batches │ whole partitions
//! ```
//!
//! The proof is the state SENT. Where that is not written, it is the slot: it has been confirmed past
//! a point of the WAL that lies behind every row that is removed, and the table held no other rows when
//! its stream began.

mod partitions;
mod proof;
mod round;
mod rows;
mod table;

use delivery::Checkpoint;
use tokio::task::JoinHandle;

use crate::config::{Pipeline, SinkKind};
use crate::failure::Failure;
use crate::pipeline::Context;
use crate::sink;
use crate::source::link::{Link, Purpose};
use crate::telemetry::WriteBackMetrics;
use crate::writeback::Server;

pub use round::{Extent, KeptPartition, Order, Progress, TableReport, run};

/// Locks are asked for, but not waited for long: others come first.
pub const PURPOSE: Purpose = Purpose {
    name: "the retention connection",
    suffix: " retention",
    options: "-c lock_timeout=1s -c statement_timeout=600s -c synchronous_commit=local \
              -c row_security=off -c timezone=UTC -c idle_in_transaction_session_timeout=60s",
};

/// Removes rows in a task of its own, as long as this lives: while the relay is active.
pub struct Retention {
    task: JoinHandle<()>,
}

impl Retention {
    /// Starts the task, on the runtime that this is called on; `None` if rows are kept, as they are
    /// while a relay to standard output is tried out.
    pub fn start(context: &Context, server: Server) -> Option<Self> {
        context.pipeline.retention.period?;
        if context.pipeline.sink == SinkKind::Stdout {
            return None;
        }
        let keeper = Keeper {
            pipeline: context.pipeline.clone(),
            server,
            metrics: context.metrics.write_back(),
            told: None,
        };
        Some(Self {
            task: tokio::spawn(keeper.run()),
        })
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The newest checkpoint.
pub async fn recorded(pipeline: &Pipeline) -> Result<Option<Checkpoint>, Failure> {
    Ok(sink::read_latest(pipeline).await?.checkpoint)
}

struct Keeper {
    pipeline: Pipeline,
    server: Server,
    metrics: WriteBackMetrics,
    /// The failure that has been told last.
    told: Option<&'static str>,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            tokio::time::sleep(self.pipeline.retention.interval).await;
            match self.round().await {
                Ok(reports) => {
                    self.told = None;
                    self.tell(&reports);
                }
                Err(failure) => self.complain(&failure),
            }
        }
    }

    async fn round(&self) -> Result<Vec<TableReport>, Failure> {
        let Some(period) = self.pipeline.retention.period else {
            return Ok(Vec::new());
        };
        let postgres = self.pipeline.postgres.for_write_back();
        let link = Link::connect(&postgres, &self.server.host, PURPOSE).await?;
        let mut removed = 0;
        let order = Order {
            period,
            extent: Extent::Remove,
            accepts_earlier_rows: false,
        };
        let recorded = recorded(&self.pipeline);
        run(&link.client, &self.pipeline, order, recorded, |progress| {
            if progress.removed > removed {
                self.metrics.pruned(progress.removed - removed);
            }
            removed = progress.removed;
        })
        .await
    }

    fn tell(&self, reports: &[TableReport]) {
        let pipeline = self.pipeline.name.as_str();
        for report in reports {
            if report.rows > 0 || !report.partitions.is_empty() {
                let partitions = report.partitions.len();
                tracing::info!(
                    pipeline,
                    table = report.table,
                    rows = report.rows,
                    partitions,
                    "pruned"
                );
            }
        }
    }

    fn complain(&mut self, failure: &Failure) {
        if self.told.replace(failure.code.name) == Some(failure.code.name) {
            return;
        }
        let (pipeline, code) = (self.pipeline.name.as_str(), failure.code.name);
        let (error, remedy) = (failure.message.as_str(), failure.code.remedy);
        if failure.is_transient() {
            tracing::warn!(pipeline, code, error, "nothing is pruned for now");
        } else {
            tracing::error!(pipeline, code, error, remedy, "nothing is pruned");
        }
    }
}
