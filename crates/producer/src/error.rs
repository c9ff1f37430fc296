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

impl DeliveryError {
    /// Whether it only follows from the failure of another record: librdkafka discards what is queued
    /// for a transaction that has to be aborted (`_PURGE_QUEUE`, `_PURGE_INFLIGHT`), and gives up the
    /// records in a batch with one that the broker refuses (`_INVALID_DIFFERENT_RECORD`, see
    /// `rd_kafka_handle_Produce_error`). Their reports may come before the one of that record.
    pub fn is_consequence(&self) -> bool {
        matches!(self.code, -152 | -151 | -138)
    }
}

/// The failure that tells more: the first one that does not merely follow from another.
pub(crate) fn cause(
    known: Option<DeliveryError>,
    next: Option<DeliveryError>,
) -> Option<DeliveryError> {
    match (known, next) {
        (Some(known), Some(next)) if known.is_consequence() && !next.is_consequence() => Some(next),
        (Some(known), _) => Some(known),
        (None, next) => next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: i32) -> Option<DeliveryError> {
        Some(DeliveryError {
            topic: "t".into(),
            code,
            name: "".into(),
            message: "".into(),
        })
    }

    #[test]
    fn the_first_failure_that_does_not_follow_from_another_is_the_cause() {
        const INVALID_RECORD: i32 = 87;
        const TOO_LARGE: i32 = 10;
        for (reports, expected) in [
            (&[-152, -138, INVALID_RECORD, -151][..], INVALID_RECORD),
            (&[INVALID_RECORD, TOO_LARGE, -152], INVALID_RECORD),
            (&[-138, -152], -138),
        ] {
            let found = reports
                .iter()
                .fold(None, |known, code| cause(known, failed(*code)));
            assert_eq!(found, failed(expected), "{reports:?}");
        }
    }
}
