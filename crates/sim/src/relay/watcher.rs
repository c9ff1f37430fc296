//! Looks at the catalog about once a second.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use pgoutput::Lsn;

use super::Context;
use crate::server::{ConnectionId, Gone};
use crate::task::pause;

const INTERVAL: Duration = Duration::from_secs(1);

/// What was seen.
pub(super) enum Sighting {
    /// The publication is intact, by a look begun when the WAL ended here.
    Verified(Lsn),
    /// The catalog connection has ended.
    Ended,
}

/// Looks until its session drops it.
pub(super) struct Watcher {
    sightings: Rc<RefCell<VecDeque<Sighting>>>,
    is_wanted: Rc<Cell<bool>>,
}

impl Watcher {
    pub fn start(context: &Context, connection: ConnectionId) -> Self {
        let (sightings, is_wanted) = (Rc::default(), Rc::new(Cell::new(true)));
        let watcher = Self {
            sightings: Rc::clone(&sightings),
            is_wanted: Rc::clone(&is_wanted),
        };
        let inner = context.clone();
        let task = look(inner, connection, sightings, is_wanted);
        context.spawn(None, Box::pin(task));
        watcher
    }

    pub fn next(&self) -> Option<Sighting> {
        self.sightings.borrow_mut().pop_front()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.is_wanted.set(false);
    }
}

async fn look(
    context: Context,
    connection: ConnectionId,
    sightings: Rc<RefCell<VecDeque<Sighting>>>,
    is_wanted: Rc<Cell<bool>>,
) {
    while is_wanted.get() {
        pause().await;
        match context.with(|world| world.server.look(connection)) {
            Ok(lsn) => {
                // The look itself takes a while, during which the WAL grows.
                pause().await;
                sightings.borrow_mut().push_back(Sighting::Verified(lsn));
            }
            // A query that times out tells nothing.
            Err(Gone::Silent) => {}
            Err(Gone::Lost | Gone::ShuttingDown) => {
                return sightings.borrow_mut().push_back(Sighting::Ended);
            }
        }
        let next = context.elapsed() + INTERVAL;
        while is_wanted.get() && context.elapsed() < next {
            pause().await;
        }
    }
}
