//! The state of one transactional id.

use std::time::Duration;

use super::{PartitionId, TransactionId};

/// A producer as its client knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    /// None for a producer that is merely idempotent, and that nobody can fence.
    pub transactional_id: Option<String>,
    pub(super) number: u64,
    pub(super) epoch: u32,
}

impl Producer {
    pub(super) fn plain(number: u64) -> Self {
        Self {
            transactional_id: None,
            number,
            epoch: 0,
        }
    }
}

#[derive(Debug)]
pub(super) enum State {
    /// No transaction.
    Empty,
    /// Records have been added; ends by EndTxn, by a newer producer, or by the timeout.
    Ongoing {
        transaction: TransactionId,
        since: Duration,
    },
    /// Decided, durably; ends when every partition has its marker.
    Settling {
        transaction: TransactionId,
        unmarked: Vec<PartitionId>,
    },
}

#[derive(Debug)]
pub(super) struct Coordinator {
    number: u64,
    pub epoch: u32,
    pub state: State,
    /// The epoch whose last transaction was committed: it may ask again whether it was.
    committed: Option<u32>,
}

impl Coordinator {
    pub fn new(number: u64) -> Self {
        Self {
            number,
            epoch: 0,
            state: State::Empty,
            committed: None,
        }
    }

    pub fn producer(&self, id: &str) -> Producer {
        Producer {
            transactional_id: Some(id.to_owned()),
            number: self.number,
            epoch: self.epoch,
        }
    }

    pub fn accepts(&self, producer: &Producer) -> bool {
        producer.number == self.number && producer.epoch == self.epoch
    }

    /// The last transaction of the present epoch was committed, and is settled everywhere.
    pub fn has_committed(&self) -> bool {
        self.committed == Some(self.epoch)
    }

    /// A transaction is decided; `partitions` are to be told.
    pub fn decide(
        &mut self,
        transaction: TransactionId,
        partitions: Vec<PartitionId>,
        commits: bool,
    ) {
        self.committed = commits.then_some(self.epoch);
        self.state = State::Settling {
            transaction,
            unmarked: partitions,
        };
    }

    pub fn open(&self) -> Option<TransactionId> {
        match self.state {
            State::Ongoing { transaction, .. } => Some(transaction),
            State::Empty | State::Settling { .. } => None,
        }
    }

    pub fn expired(&self, now: Duration, timeout: Duration) -> Option<TransactionId> {
        match self.state {
            State::Ongoing { transaction, since } if now > since + timeout => Some(transaction),
            State::Ongoing { .. } | State::Empty | State::Settling { .. } => None,
        }
    }

    /// The next partition to be told, until the transaction is settled everywhere.
    pub fn next_marker(&mut self) -> Option<(PartitionId, TransactionId)> {
        let State::Settling {
            transaction,
            unmarked,
        } = &mut self.state
        else {
            return None;
        };
        let (next, transaction) = (unmarked.pop(), *transaction);
        if unmarked.is_empty() {
            self.state = State::Empty;
        }
        next.map(|partition| (partition, transaction))
    }
}
