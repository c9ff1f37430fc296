//! What librdkafka says went wrong.

use crate::ErrorName;

/// How librdkafka classes the error of a transactional call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The same call may be repeated.
    Retriable,
    /// The transaction must be aborted.
    RequiresAbort,
    /// The producer instance is dead (fenced, or its state is unknown).
    Fatal,
    /// None of the flags is set.
    Unclassified,
}

/// A transactional call failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{call}: {message} ({name})")]
pub struct TransactionError {
    /// The librdkafka call.
    pub call: &'static str,
    /// librdkafka's numeric code.
    pub code: i32,
    /// The symbolic name of the code.
    pub name: ErrorName,
    /// The message for people.
    pub message: String,
    /// librdkafka's own flags.
    pub class: ErrorClass,
}

impl TransactionError {
    /// Another producer has taken over the transactional id.
    ///
    /// Codes: `_FENCED` (-144), `INVALID_PRODUCER_EPOCH` (47), `PRODUCER_FENCED` (90).
    pub fn is_fenced(&self) -> bool {
        matches!(self.code, -144 | 47 | 90)
    }
}

/// A record was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("delivery to topic {topic} failed: {message} ({name})")]
pub struct DeliveryError {
    /// The record's topic.
    pub topic: String,
    /// librdkafka's numeric code.
    pub code: i32,
    /// The symbolic name of the code.
    pub name: ErrorName,
    /// The message for people.
    pub message: String,
}
