//! What can happen. The README maps each action to the production function that it stands for.

use crate::{Lane, Lsn, Message, RelayId};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Starts the stream, which takes the slot.
    Acquire(RelayId),
    /// Reads the slot's row.
    ReadSlot(RelayId),
    /// Acquires a transactional id and learns so; fences whoever had it.
    Fence(RelayId, Lane),
    /// An id is asked for that still has a transaction: Kafka aborts it, and wants to be asked again.
    Interrupt(RelayId, Lane),
    /// Reads the newest checkpoint, compares it with the slot, and streams.
    ReadCheckpoint(RelayId),
    /// Receives a row or a commit.
    Receive(RelayId),
    /// Closes the open window at a transaction boundary.
    Close(RelayId),
    /// Records progress that no window carries.
    Record(RelayId),
    /// Produces a window's events.
    ProduceEvents(RelayId, Lane),
    /// Produces a window's checkpoint.
    ProduceCheckpoint(RelayId, Lane),
    /// Hears the answer to EndTxn; confirms, or ends the session.
    HearAnswer(RelayId, Lane),
    /// Finds out that its connection to Postgres is gone; ends the session.
    NoticeLoss(RelayId),
    /// A request reaches Kafka.
    Deliver(Message),
    /// A coordinator writes its markers.
    Settle(usize),
    /// Kafka aborts a transaction that has been open for too long, and nothing else moves.
    Expire(usize),
    /// Broken relays only: a new producer for a window with an unknown outcome.
    Reproduce(RelayId, Lane),
    /// Something goes wrong, or need not happen.
    Fault(Fault),
}

/// What may happen only as often as the budget allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The process dies.
    Crash(RelayId),
    /// The server ends the connection that holds the slot. The relay goes on with what it received.
    Disconnect(RelayId),
    /// The server crashes and its slot goes back.
    CrashServer(Lsn),
    /// A commit is not answered in time: the session ends, the request stays under way.
    GiveUp(RelayId, Lane),
    /// An InitProducerId is not answered: it stays under way, and another one is sent.
    LoseInit(RelayId, Lane),
    /// Kafka aborts a transaction that has been open for too long though its producer lives.
    ExpireEarly(usize),
    /// The server reports how far it has sent.
    Keepalive(RelayId),
    /// A commit request is under way twice.
    Duplicate(Message),
}
