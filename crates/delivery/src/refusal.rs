//! What the brokers say when they do not take a window.

use pgoutput::Position;

/// Why a window was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The topic of the record that was refused; empty if that is not known.
    pub topic: String,
    /// What is wrong.
    pub cause: RefusalCause,
    /// The same for people.
    pub reason: String,
    /// Events that the brokers have named, if it is what is in the window. They may have named none.
    pub events: Vec<RefusedEvent>,
}

/// An event that the brokers do not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEvent {
    /// Where its row was inserted.
    pub position: Position,
    /// Its id: positions in feeds begin anew with each.
    pub id: String,
    /// Why, for people.
    pub reason: String,
}

/// What is wrong with a window that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCause {
    /// Its topic does not exist: no event is to blame.
    TopicMissing,
    /// Its topic may not be written to: no event is to blame.
    TopicDenied,
    /// What is in it.
    Contents,
}
