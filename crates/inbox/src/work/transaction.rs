//! Some events of a batch in one transaction.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use event::envelope::Envelope;
use futures_util::FutureExt;

use super::{Content, How, Item, Once, Run, Tried, Worker};
use crate::claim::{self, Broken, Claims, Stretch};
use crate::event::Opened;
use crate::failure::Failure;
use crate::handler::{AnyHandler, Failed};
use crate::order::Slot;
use crate::trace;

/// Why a transaction was not committed.
enum Undone {
    Failed(Option<usize>, Failure),
    Moved,
    Ended,
}

impl From<Failure> for Undone {
    /// Of no event in particular.
    fn from(failure: Failure) -> Self {
        Self::Failed(None, failure)
    }
}

/// What a transaction did, to be counted once it is committed.
#[derive(Default)]
struct Done {
    handled: Vec<usize>,
    duplicates: Vec<usize>,
    /// The transaction, if it claims something.
    xid: String,
}

impl Worker {
    /// Tries the events of a range in one transaction.
    pub(super) async fn attempt(&self, run: &mut Run, range: Range<usize>) -> Tried {
        let free = run.free(range);
        let (passed, live): (Vec<_>, Vec<_>) =
            free.iter().partition(|at| run.items[**at].is_passed_over());
        let is_needed = match self.once {
            Once::Inbox => !live.is_empty(),
            Once::Offsets => !free.is_empty(),
        };
        if is_needed {
            match self.transact(&run.items, &free, &live).await {
                Ok(done) => {
                    for at in done.handled {
                        self.settled(run, at, How::Handled);
                    }
                    for at in done.duplicates {
                        self.settled(run, at, How::Duplicate);
                    }
                }
                Err(Undone::Moved) => return Tried::Moved,
                Err(Undone::Ended) => return Tried::Ended,
                Err(Undone::Failed(at, failure)) => return Tried::Failed(at, failure),
            }
        }
        for at in passed {
            let how = match run.items[at].is_skipped {
                true => How::Skipped,
                false => How::Dead,
            };
            self.settled(run, at, how);
        }
        Tried::Done
    }

    fn settled(&self, run: &mut Run, at: usize, how: How) {
        let topic = &run.items[at].source.topic;
        match how {
            How::Handled => self.metrics.handled(topic),
            How::Duplicate => self.metrics.duplicate(topic),
            How::Skipped => self.metrics.skipped(topic),
            // Counted when it was written.
            How::Dead => {}
        }
        run.settled(at, how);
    }

    async fn transact(
        &self,
        items: &[Item],
        free: &[usize],
        live: &[usize],
    ) -> Result<Done, Undone> {
        let mut client = self.pool.get().await.map_err(Failure::unavailable)?;
        let tx = client.transaction().await.map_err(Failure::of_inbox)?;
        let live = events(items, live);
        let done = match self.once {
            Once::Inbox => self.claim(&tx, &live).await?,
            Once::Offsets => {
                let mut done = Done {
                    handled: live.iter().map(|(at, _)| *at).collect(),
                    ..Done::default()
                };
                for stretch in stretches(items, free) {
                    let advanced = claim::advance(&tx, &self.consumer, &stretch).await?;
                    done.xid = advanced.ok_or(Undone::Moved)?;
                }
                done
            }
        };
        let new: HashSet<usize> = done.handled.iter().copied().collect();
        let mut opened = Vec::with_capacity(new.len());
        for (at, envelope) in live.into_iter().filter(|(at, _)| new.contains(at)) {
            let event = self.opened(&items[at], envelope);
            opened.push(event.map_err(|failure| Undone::Failed(Some(at), failure))?);
        }
        let handled = self.handle(&tx, &opened, &done.handled).await;
        if !opened.is_empty() {
            match claim::require_intact(&tx, &done.xid).await {
                Ok(()) => handled?,
                Err(Broken::Ended) => return Err(Undone::Ended),
                // The handler's own failure says more.
                Err(Broken::Failed(failure)) => handled.and(Err(failure.into()))?,
            }
        }
        tx.commit().await.map_err(Failure::from)?;
        Ok(done)
    }

    /// Tells new events from duplicates. Of one that occurs twice in the batch the first is new.
    async fn claim(
        &self,
        tx: &Transaction<'_>,
        live: &[(usize, &Arc<Envelope>)],
    ) -> Result<Done, Undone> {
        let ids: Vec<&str> = live
            .iter()
            .map(|(_, event)| event.event_id.as_str())
            .collect();
        let Claims { mut new, xid } = claim::claim(tx, &self.consumer, &ids).await?;
        let mut done = Done {
            xid,
            ..Done::default()
        };
        for (at, envelope) in live {
            match new.remove(&envelope.event_id) {
                true => done.handled.push(*at),
                false => done.duplicates.push(*at),
            }
        }
        Ok(done)
    }

    fn opened(&self, item: &Item, envelope: &Arc<Envelope>) -> Result<Opened, Failure> {
        let attempt = item.attempts.failed() + 1;
        let payload = match &item.payload {
            Some(Ok(payload)) => payload.clone(),
            Some(Err(reason)) => return Err(Failure::coded("encryption", reason.as_str())),
            // Whatever runs was opened before.
            None => return Err(Failure::transient("the payload was not opened")),
        };
        Ok(Opened {
            span: trace::span(&self.consumer, envelope, &item.source, attempt),
            envelope: Arc::clone(envelope),
            source: Arc::clone(&item.source),
            payload,
            attempt,
        })
    }

    /// Gives the events to their handlers, neighbours of one type together. `places` are theirs in
    /// the batch.
    async fn handle(
        &self,
        tx: &Transaction<'_>,
        events: &[Opened],
        places: &[usize],
    ) -> Result<(), Undone> {
        let mut start = 0;
        let same = |a: &Opened, b: &Opened| a.envelope.event_type == b.envelope.event_type;
        for events in events.chunk_by(same) {
            let event_type = events
                .first()
                .map(|event| event.envelope.event_type.as_str());
            let handler = event_type.and_then(|of| self.handlers.of_type(of));
            if let Some(handler) = handler {
                let handled = guarded(handler.as_ref(), events, tx).await;
                handled.map_err(|failed| {
                    let alone = (events.len() == 1).then_some(0);
                    let at = failed.at.or(alone).and_then(|at| places.get(start + at));
                    Undone::Failed(at.copied(), failed.failure)
                })?;
            }
            start += events.len();
        }
        Ok(())
    }
}

/// A handler that panics has failed; which event it was at is not known.
async fn guarded(
    handler: &dyn AnyHandler,
    events: &[Opened],
    tx: &Transaction<'_>,
) -> Result<(), Failed> {
    let handling = AssertUnwindSafe(handler.handle(events, tx)).catch_unwind();
    handling.await.unwrap_or_else(|panic| {
        let failure = Failure::transient(format!("the handler panicked: {}", text(&*panic)));
        Err(Failed { at: None, failure })
    })
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

fn events<'a>(items: &'a [Item], live: &[usize]) -> Vec<(usize, &'a Arc<Envelope>)> {
    let event = |at: &usize| match &items[*at].content {
        Content::Event(envelope) => Some((*at, envelope)),
        // Doomed from the start, and passed over by now.
        Content::Unreadable(_) => None,
    };
    live.iter().filter_map(event).collect()
}

/// What is handled of each partition: one lane, hence in order and without a gap.
fn stretches(items: &[Item], free: &[usize]) -> Vec<Stretch> {
    let mut found: HashMap<Slot, Stretch> = HashMap::new();
    for at in free {
        let Item { lane, source, .. } = &items[*at];
        let stretch = found.entry(lane.slot).or_insert_with(|| Stretch {
            topic: source.topic.to_string(),
            partition: source.partition,
            first: source.offset,
            last: source.offset,
        });
        stretch.last = source.offset;
    }
    let mut found: Vec<_> = found.into_values().collect();
    // Always in the same order: two transactions can't wait for each other.
    found.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    found
}
