//! What the brokers say when they do not take a window.

/// Why a window was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The topic of the record that was refused; empty if that is not known.
    pub topic: String,
    /// What is wrong.
    pub cause: RefusalCause,
    /// The same for people.
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
