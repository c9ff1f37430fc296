//! Whether the slot follows: with nothing in flight, what a keepalive says is soon confirmed.
//!
//! Judged in calm only, where nothing but the relay can be slow. Two looks at the publication may
//! be needed, a second apart, and a commit; the rest is what the scheduler takes.

use std::time::Duration;

use pgoutput::Lsn;

use crate::Violation;
use crate::server::{ConnectionId, Server};

/// For looks, a commit, and a scheduler that lets others go first.
const PATIENCE: Duration = Duration::from_secs(12);
/// A fast shutdown is not held up for longer: the relay drains for 1.5 s.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(8);

#[derive(Debug)]
struct Promise {
    connection: ConnectionId,
    wal_end: Lsn,
    asked: bool,
    due: Duration,
}

/// Keepalives that are to be confirmed.
#[derive(Debug, Default)]
pub(super) struct Promptness {
    /// Set in calm: how often the relay records progress unasked.
    interval: Option<Duration>,
    promises: Vec<Promise>,
}

impl Promptness {
    pub fn keep_calm(&mut self, interval: Duration) {
        self.interval = Some(interval);
    }

    /// A client read a keepalive, while every committed event was durable.
    pub fn heard(&mut self, connection: ConnectionId, wal_end: Lsn, asked: bool, now: Duration) {
        let Some(interval) = self.interval else {
            return;
        };
        let due = now + PATIENCE + if asked { Duration::ZERO } else { interval };
        self.promises.push(Promise {
            connection,
            wal_end,
            asked,
            due,
        });
    }

    /// A client confirmed.
    pub fn confirmed(&mut self, connection: ConnectionId, lsn: Lsn) {
        let is_kept = |p: &Promise| p.connection == connection && p.wal_end <= lsn;
        self.promises.retain(|promise| !is_kept(promise));
    }

    /// Nothing is waited for.
    pub fn is_answered(&self) -> bool {
        self.promises.is_empty()
    }

    pub fn check(&mut self, server: &Server, now: Duration) -> Result<(), Violation> {
        let held_up = server.held_up();
        if held_up > SHUTDOWN_PATIENCE {
            return Err(Violation::ShutdownHeldUp(held_up));
        }
        self.promises.retain(|p| server.is_streaming(p.connection));
        match self.promises.iter().find(|promise| promise.due < now) {
            Some(broken) => Err(Violation::Unanswered {
                wal_end: broken.wal_end,
                asked: broken.asked,
            }),
            None => Ok(()),
        }
    }
}
