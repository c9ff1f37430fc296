//! The task that writes: one batch after the other, each until it is done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use delivery::{Backoff, RetryPolicy};
use envelope::TableId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, timeout_at};

use super::Done;
use super::batch::{TableRows, gather};
use super::session::{Server, Session, Updated};
use crate::config::{Pipeline, WriteBack};
use crate::failure::Failure;
use crate::telemetry::{Vitals, WriteBackMetrics};

/// Rows that are taken together, if they are at hand. What was submitted at once may be more.
const BATCH_ROWS: usize = 5_000;
/// From the beginning of one batch with room left to that of the next, for each pipeline of the process: under
/// load rows gather meanwhile, and a hundred small windows a second do not become as many commits, each of which
/// wakes the walsenders of all slots.
const PACE: Duration = Duration::from_millis(20);
const PACE_MAX: Duration = Duration::from_secs(1);
const RETRY: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(50),
    max: Duration::from_secs(3),
    multiplier: 2.0,
};

pub(super) struct Worker {
    pub pipeline: Pipeline,
    pub server: Server,
    pub modes: BTreeMap<TableId, WriteBack>,
    pub pace: Duration,
    pub vitals: Arc<Vitals>,
    pub metrics: WriteBackMetrics,
    /// Opened when there is something to write.
    pub session: Option<Session>,
}

impl Worker {
    /// Writes what is submitted, in this order, until nobody submits any more.
    pub async fn run(
        mut self,
        mut submitted: UnboundedReceiver<Done>,
        done: UnboundedSender<Done>,
    ) {
        let mut due = Instant::now();
        while let Some(first) = submitted.recv().await {
            let mut rows = first.marks.len();
            let mut taken = vec![first];
            while rows < BATCH_ROWS
                && let Ok(Some(next)) = timeout_at(due, submitted.recv()).await
            {
                rows += next.marks.len();
                taken.push(next);
            }
            due = Instant::now() + self.pace;
            self.write(&taken).await;
            for one in taken {
                if done.send(one).is_err() {
                    return;
                }
            }
        }
    }

    /// Tries until it succeeds. What was written by an earlier try is not pending any more.
    async fn write(&mut self, taken: &[Done]) {
        let tables = gather(taken.iter().map(|one| &one.marks), &self.modes);
        if tables.is_empty() {
            return;
        }
        let xids: Vec<u32> = taken
            .iter()
            .flat_map(|one| one.marks.xids())
            .copied()
            .collect();
        let mut backoff = Backoff::new(RETRY);
        let mut written_at = None;
        while let Err(failure) = self.attempt(&tables, &xids, &mut written_at).await {
            // The table may have been altered, or the defaults of a session: both are read anew.
            self.session = None;
            // An altered table is no trouble if that helps.
            if failure.is_transient() || backoff.failures() > 0 {
                self.vitals.write_back_failed(&failure);
            }
            self.metrics.failed(failure.code.name);
            tokio::time::sleep(backoff.next_wait(fastrand::f64())).await;
        }
        self.vitals.written_back();
    }

    async fn attempt(
        &mut self,
        tables: &BTreeMap<TableId, TableRows<'_>>,
        xids: &[u32],
        written_at: &mut Option<String>,
    ) -> Result<(), Failure> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(Session::open(&self.pipeline, &self.server).await?),
        };
        session.see(xids).await?;
        let began = Instant::now();
        let mut changed = 0;
        for (table, rows) in tables {
            let Updated {
                sent,
                failed,
                passed_over,
            } = session.update(*table, rows).await?;
            self.metrics.wrote(sent, failed, passed_over);
            changed += sent + failed;
        }
        self.metrics.batch(began.elapsed());
        // What an earlier try wrote is not waited for anew: a standby may always be behind.
        if changed > 0 || written_at.is_none() {
            *written_at = session.end_for_standbys().await?;
        }
        match written_at {
            Some(end) => session.await_standbys(end).await,
            None => Ok(()),
        }
    }
}

/// The pace of one of so many pipelines.
pub(super) fn pace_among(pipelines: u32) -> Duration {
    PACE.saturating_mul(pipelines).min(PACE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_pipelines_write_back_as_often_as_one() {
        let ms = Duration::from_millis;
        for (pipelines, pace) in [(1, ms(20)), (7, ms(140)), (50, ms(1000)), (500, PACE_MAX)] {
            assert_eq!(pace_among(pipelines), pace);
        }
    }
}
