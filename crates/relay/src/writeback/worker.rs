//! The task that writes: one batch after the other, each until it is done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use delivery::{Backoff, RetryPolicy};
use envelope::TableId;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, timeout_at};

use super::Done;
use super::batch::{TableRows, gather};
use super::session::{Server, Session, Updated};
use crate::config::{Pipeline, WriteBack};
use crate::failure::Failure;
use crate::telemetry::{Vitals, WriteBackMetrics};

/// With so many rows a batch does not wait for more. What was submitted at once may be more.
const BATCH_ROWS: usize = 5_000;
/// A server that is busy, whoever keeps it so, is left alone for so many times as long as a batch took.
const REST_SHARE: u32 = 3;
const REST_MAX: Duration = Duration::from_millis(500);
const RETRY: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(50),
    max: Duration::from_secs(3),
    multiplier: 2.0,
};

pub(super) struct Worker {
    pub pipeline: Pipeline,
    pub server: Server,
    pub modes: BTreeMap<TableId, WriteBack>,
    /// From the beginning of one batch to that of the next.
    pub pace: Duration,
    pub due: Instant,
    /// The session ends: no batch waits for more any more.
    pub hurry: Arc<Notify>,
    pub hurries: bool,
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
        while let Some(first) = submitted.recv().await {
            let taken = self.gather(first, &mut submitted).await;
            let rows = taken.iter().map(|one| one.marks.len()).sum();
            let began = Instant::now();
            self.write(&taken).await;
            self.due = self.due_after(rows, began);
            for one in taken {
                if done.send(one).is_err() {
                    return;
                }
            }
        }
    }

    /// What is submitted until the batch is due, or full.
    async fn gather(&mut self, first: Done, submitted: &mut UnboundedReceiver<Done>) -> Vec<Done> {
        let mut rows = first.marks.len();
        let mut taken = vec![first];
        while rows < BATCH_ROWS {
            let next = tokio::select! {
                biased;
                next = timeout_at(self.due, submitted.recv()) => next,
                () = self.hurry.notified() => {
                    self.hurries = true;
                    self.due = Instant::now();
                    continue;
                }
            };
            let Ok(Some(next)) = next else {
                break;
            };
            rows += next.marks.len();
            taken.push(next);
        }
        taken
    }

    /// When a batch is due after one of so many rows that began then.
    fn due_after(&self, rows: usize, began: Instant) -> Instant {
        let now = Instant::now();
        if self.hurries {
            return now;
        }
        (began + self.pace).max(now + rest(rows, now - began))
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

/// What follows a batch of so many rows that took so long. Where more may wait, nothing.
fn rest(rows: usize, took: Duration) -> Duration {
    match rows < BATCH_ROWS {
        true => took.saturating_mul(REST_SHARE).min(REST_MAX),
        false => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_server_is_given_rest_unless_rows_wait() {
        let ms = Duration::from_millis;
        assert_eq!(rest(1, ms(50)), ms(150));
        assert_eq!(rest(1, ms(10_000)), REST_MAX);
        assert_eq!(rest(BATCH_ROWS, ms(10_000)), ms(0));
    }
}
