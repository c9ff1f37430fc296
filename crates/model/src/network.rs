//! Requests to Kafka that are under way. They arrive in any order, at any time.

use crate::{CoordinatorId, RelayId};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// EndTxn(commit). A producer that was fenced meanwhile is refused.
    Commit {
        /// Whether a newer producer has the transactional id by now.
        fenced: bool,
    },
    /// InitProducerId of somebody who does not wait for the answer any more.
    Init,
}

/// A request under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    /// Which transactional id it speaks of.
    pub coordinator: CoordinatorId,
    /// What is asked for.
    pub request: Request,
    /// Who waits for the answer, if anybody still does.
    pub sender: Option<RelayId>,
}

impl Message {
    /// Whether its producer has been fenced.
    pub fn is_refused(&self) -> bool {
        self.request == Request::Commit { fenced: true }
    }
}
