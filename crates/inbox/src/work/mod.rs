//! A batch of events: handled in as few transactions as they allow.
//!
//! ```text
//!  all in one transaction ──failed──► those before the culprit │ the culprit alone │ those behind it
//!          │                                                         │
//!        done                                          again later │ dead letter
//! ```
//!
//! Who is at fault is known where a handler of single events fails. Else the batch is halved until
//! one event is alone. An event's attempts count only when it was alone.

mod item;
mod opening;
mod run;
mod transaction;

use std::time::{Duration, SystemTime};

use deadpool_postgres::Pool;
use futures_util::future::join_all;

use crate::dead_letter::{DeadLetters, Doom};
use crate::error::Error;
use crate::event::Source;
use crate::failure::{Failure, Kind};
use crate::handlers::{Handlers, Unknown};
use crate::metrics::Metrics;
use crate::order::{Next, Retry};

pub(crate) use item::{Content, Item};
pub(crate) use run::{How, Outcome, Report};
use run::{Run, Tried};

/// What keeps a delivery that is repeated from being handled again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Once {
    /// Ids of events, in the table `inbox` (`sql/inbox.sql`). Keys run in parallel, and an event that
    /// was published twice, or comes by another topic, is a duplicate as well.
    #[default]
    Inbox,
    /// Offsets, in the table `inbox_offsets` (`sql/inbox_offsets.sql`). Cheaper, and there is nothing to
    /// clean up; but each partition is handled in its order, only repeated *deliveries* are recognised,
    /// and not events that were published again.
    Offsets,
}

/// Where dead letters go.
#[derive(Clone)]
pub(crate) enum Letters {
    /// To their topic.
    Topic(DeadLetters),
    /// Nowhere, in tests of handlers.
    None,
}

/// Handles batches. Shared by all that run at the same time.
pub(crate) struct Worker {
    pub consumer: String,
    pub pool: Pool,
    pub handlers: Handlers,
    pub retry: Retry,
    pub once: Once,
    pub letters: Letters,
    pub metrics: Metrics,
}

impl Worker {
    /// Handles a batch; events of one lane are in their order in it.
    pub async fn process(&self, items: Vec<Item>) -> Report {
        let mut run = Run::new(items);
        for at in 0..run.items.len() {
            self.sort_out(&mut run, at);
        }
        if let Err(failure) = self.bury_all(&mut run).await {
            return run.report(Some(failure));
        }
        self.open_all(&mut run).await;
        let whole = 0..run.items.len();
        let mut ranges = vec![whole];
        while let Some(range) = ranges.pop() {
            let tried = self.attempt(&mut run, range.clone()).await;
            let (at, failure) = match tried {
                Tried::Done => continue,
                Tried::Moved => return run.report_moved(),
                Tried::Ended => {
                    let error = ended(&run.items[range.start]);
                    run.stop(range.start, error);
                    return run.report(None);
                }
                Tried::Failed(_, failure) if failure.kind == Kind::Unavailable => {
                    return run.report(Some(failure));
                }
                Tried::Failed(at, failure) => (at, failure),
            };
            if range.len() > 1 {
                ranges.extend(run::divide(&range, at).into_iter().rev());
            } else if run.items[range.start].is_passed_over() {
                // It is a dead letter already: that its offset can't be stored is not its fault.
                return run.report(Some(failure));
            } else if let Some(again) = self.alone_failed(&mut run, range.start, failure).await {
                match again {
                    Ok(()) => ranges.push(range),
                    Err(failure) => return run.report(Some(failure)),
                }
            }
        }
        run.report(None)
    }

    /// Finds the events that no handler can take.
    fn sort_out(&self, run: &mut Run, at: usize) {
        let item = &mut run.items[at];
        let Content::Event(envelope) = &item.content else {
            return;
        };
        if item.doom.is_some() || self.handlers.of_type(&envelope.event_type).is_some() {
            return;
        }
        let event_type = envelope.event_type.clone();
        match self.handlers.policy() {
            Unknown::DeadLetter => {
                let reason = format!("there is no handler for events of type {event_type}");
                item.doom(Failure::coded("unknown-type", reason));
            }
            Unknown::Skip => item.is_skipped = true,
            Unknown::Stop => {
                let error = Error::UnknownType {
                    event_id: envelope.event_id.clone(),
                    event_type,
                    topic: item.source.topic.to_string(),
                    partition: item.source.partition,
                    offset: item.source.offset,
                };
                run.stop(at, error);
            }
        }
    }

    /// Writes the dead letters of all that are known to be doomed.
    async fn bury_all(&self, run: &mut Run) -> Result<(), Failure> {
        let waiting: Vec<_> = run.doomed().collect();
        let buried = join_all(waiting.iter().map(|at| self.bury(&run.items[*at]))).await;
        for (at, buried) in waiting.into_iter().zip(buried) {
            buried?;
            run.items[at].is_buried = true;
        }
        Ok(())
    }

    async fn bury(&self, item: &Item) -> Result<(), Failure> {
        let Some(doom) = &item.doom else {
            return Ok(());
        };
        match &self.letters {
            Letters::Topic(topic) => {
                let sent = topic.send(&item.source, item.content.headers(), doom).await;
                sent.map_err(Failure::unavailable)?;
            }
            Letters::None => {}
        }
        let (topic, class) = (&item.source.topic, doom.class);
        self.metrics.dead_letter(topic, class);
        let Doom {
            reason, attempts, ..
        } = doom;
        let event_id = item.content.event_id();
        let (partition, offset) = (item.source.partition, item.source.offset);
        tracing::warn!(
            consumer = self.consumer, eventId = event_id, %topic, partition, offset, class,
            attempts, error = reason, "event became a dead letter"
        );
        Ok(())
    }

    /// An event failed in a transaction of its own. `Some(Ok)`: it is dead, and to be passed over.
    async fn alone_failed(
        &self,
        run: &mut Run,
        at: usize,
        failure: Failure,
    ) -> Option<Result<(), Failure>> {
        let item = &mut run.items[at];
        item.first_failure.get_or_insert_with(SystemTime::now);
        let random = fastrand::f64();
        let next = match failure.kind {
            Kind::Permanent(_) => item.attempts.after_verdict(),
            Kind::Conflict => Next::Again(item.attempts.after_conflict(random)),
            Kind::Counted | Kind::Unavailable => item.attempts.after_failure(&self.retry, random),
        };
        match next {
            Next::Again(wait) => {
                self.again(run, at, wait, &failure);
                None
            }
            Next::DeadLetter => {
                item.doom_after_attempts(&failure);
                let buried = self.bury(&run.items[at]).await;
                run.items[at].is_buried = buried.is_ok();
                Some(buried)
            }
        }
    }

    /// An event waits, and with it what is behind it in its lane.
    fn again(&self, run: &mut Run, at: usize, wait: Duration, failure: &Failure) {
        let item = &run.items[at];
        self.metrics.retry(&item.source.topic);
        let event_id = item.content.event_id();
        let Source {
            topic,
            partition,
            offset,
            ..
        } = item.source.as_ref();
        tracing::info!(
            consumer = self.consumer, eventId = event_id, %topic, partition, offset,
            attempt = item.attempts.failed(), error = %failure, ?wait, "event is tried again"
        );
        run.again(at, wait);
    }
}

fn ended(first: &Item) -> Error {
    Error::TransactionEnded {
        event_id: first.content.event_id().to_owned(),
        topic: first.source.topic.to_string(),
        partition: first.source.partition,
        offset: first.source.offset,
    }
}
