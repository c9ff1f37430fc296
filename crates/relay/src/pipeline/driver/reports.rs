//! What comes back: of windows from Kafka, of states from the tables.

use std::time::Instant;

use delivery::{Answer, MarksId, WindowId};

use super::{Driver, Flying};
use crate::failure::Failure;
use crate::sink::Report;
use crate::writeback::Done;

impl Driver<'_> {
    pub(super) fn reported(&mut self, report: Report) -> Result<(), Failure> {
        let now = Instant::now();
        match report {
            Report::Acknowledged { window, batch } => {
                self.delivery.handle_acknowledged(window, now);
                if let Some(flying) = self.flight.iter_mut().find(|f| f.window == window) {
                    flying.batch = Some(batch);
                }
                if !self.context.pipeline.commits_windows() {
                    self.landed(window, now);
                }
            }
            Report::Committed { window } => {
                self.delivery.handle_committed(window, now);
                self.landed(window, now);
            }
            Report::Recorded => {
                self.delivery.handle_recorded(now);
                self.context.vitals.committed();
            }
            Report::Answered { topic, answer } => {
                self.delivery
                    .handle_answer(&topic, &answer, fastrand::f64(), now);
                self.fit_batches(&answer)?;
            }
            Report::Refused(failure, refusal) => {
                let halt = self.delivery.handle_refused(&refusal, now);
                return Err(halt.map_or(failure, Failure::from));
            }
            Report::Failed(failure) => return Err(failure),
            Report::Trouble(failure) => self.context.vitals.trouble(&failure),
        }
        Ok(())
    }

    /// Producers make batches of several records: none may be larger than a topic takes.
    fn fit_batches(&mut self, answer: &Answer) -> Result<(), Failure> {
        let Answer::Usable { max_bytes } = *answer else {
            return Ok(());
        };
        if self.memory.fit_batches(&self.context.pipeline, max_bytes) {
            return Ok(());
        }
        let message = format!("a topic takes batches of {max_bytes} bytes only");
        Err(Failure::new("batch-limit", message))
    }

    pub(super) fn written_back(&mut self, Done { id, marks }: Done) {
        let now = Instant::now();
        self.delivery.handle_written_back(MarksId(id), marks, now);
    }

    /// A window is durable.
    fn landed(&mut self, window: WindowId, now: Instant) {
        self.context.vitals.committed();
        self.context.vitals.progressed();
        let Some(index) = self.flight.iter().position(|f| f.window == window) else {
            return;
        };
        let Some(Flying {
            since,
            batch: Some(batch),
            ..
        }) = self.flight.remove(index)
        else {
            return;
        };
        self.context
            .metrics
            .published(&batch, now.duration_since(since));
        self.backlog.published(&batch);
        crate::telemetry::log_dead_letters(&self.context.pipeline, &batch);
        if let Some(spans) = &self.context.spans {
            spans.published(&self.context.pipeline, &batch);
        }
        if self.context.log_events {
            crate::telemetry::log_published(&self.context.pipeline, &batch);
        }
        self.delivery.recycle(batch);
    }
}
