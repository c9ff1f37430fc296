//! The encrypted payloads of a batch, opened before its transaction begins.

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::{Content, Run, Worker};
use crate::opener::NotOpened;

/// Payloads that are opened at the same time: a key store is not to be flooded.
const AT_ONCE: usize = 16;

impl Worker {
    /// Opens what is not open yet. An event whose key can't be had now is tried again without end, and
    /// holds up only its lane. One that can never be opened is left to [`attempt`](Self::attempt): it
    /// may be a duplicate.
    pub(super) async fn open_all(&self, run: &mut Run) {
        let closed = run.items.iter().enumerate().filter_map(|(at, item)| {
            let is_needed = item.payload.is_none() && item.doom.is_none() && !item.is_skipped;
            match &item.content {
                Content::Event(envelope) if is_needed => Some((at, Arc::clone(envelope))),
                _ => None,
            }
        });
        let closed: Vec<_> = closed.collect();
        let opening = stream::iter(closed);
        let opening = opening.map(async |(at, envelope)| {
            let opened = self.handlers.opener().open(&envelope).await;
            (at, opened)
        });
        let opened: Vec<_> = opening.buffered(AT_ONCE).collect().await;
        for (at, opened) in opened {
            let item = &mut run.items[at];
            match opened {
                Ok(payload) => item.payload = Some(Ok(payload)),
                Err(NotOpened::Ever(reason)) => item.payload = Some(Err(reason)),
                Err(NotOpened::Yet(failure)) => {
                    let wait = item.attempts.after_conflict(fastrand::f64());
                    self.again(run, at, wait, &failure);
                }
            }
        }
    }
}
