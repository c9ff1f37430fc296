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

/// A record that the broker names as one of those that make a batch invalid (KIP-467).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRecord {
    /// Its tag.
    pub tag: usize,
    /// What the broker says of it.
    pub message: String,
}

/// Of the reports of one batch: the records that are at fault.
///
/// librdkafka gives what the broker has named the error of the batch, or `INVALID_RECORD` if it has
/// named several, and all others `_INVALID_DIFFERENT_RECORD`
/// (`rd_kafka_msgbatch_handle_Produce_result_record_errors`). A broker that names none leaves all with the
/// error of the batch: then nothing is known, unless there is only one.
#[derive(Default)]
pub(crate) struct BatchReport {
    reports: usize,
    names_others: bool,
    lowest_failed: Option<usize>,
    invalid: Vec<InvalidRecord>,
}

impl BatchReport {
    /// Takes a report in: the record's tag, its code (0: delivered), and what is said of it.
    pub fn take(&mut self, tag: usize, code: i32, message: impl FnOnce() -> String) {
        self.reports += 1;
        if code != 0 && tag != 0 {
            self.lowest_failed = Some(self.lowest_failed.map_or(tag, |known| known.min(tag)));
        }
        self.names_others |= code == INVALID_DIFFERENT_RECORD;
        if matches!(
            code,
            MSG_SIZE_TOO_LARGE | INVALID_TIMESTAMP | INVALID_RECORD
        ) {
            let message = message();
            self.invalid.push(InvalidRecord { tag, message });
        }
    }

    pub fn count(&self) -> usize {
        self.reports
    }

    /// Of the records that were not delivered.
    pub fn lowest_failed(&self) -> Option<usize> {
        self.lowest_failed
    }

    /// Those that are known to be at fault.
    pub fn named(self) -> Vec<InvalidRecord> {
        match self.names_others || self.reports == 1 {
            true => self.invalid,
            false => Vec::new(),
        }
    }
}

// Errors of librdkafka itself.
const PURGE_QUEUE: i32 = -152;
const PURGE_INFLIGHT: i32 = -151;
const INVALID_DIFFERENT_RECORD: i32 = -138;
// Errors of the broker.
const MSG_SIZE_TOO_LARGE: i32 = 10;
const INVALID_TIMESTAMP: i32 = 32;
const INVALID_RECORD: i32 = 87;

impl DeliveryError {
    /// Whether it only follows from the failure of another record: librdkafka discards what is queued
    /// for a transaction that has to be aborted (`_PURGE_QUEUE`, `_PURGE_INFLIGHT`), and gives up the
    /// records in a batch with one that the broker refuses (`_INVALID_DIFFERENT_RECORD`, see
    /// `rd_kafka_handle_Produce_error`). Their reports may come before the one of that record.
    pub fn is_consequence(&self) -> bool {
        matches!(
            self.code,
            PURGE_QUEUE | PURGE_INFLIGHT | INVALID_DIFFERENT_RECORD
        )
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
    fn a_record_is_at_fault_if_the_broker_tells_it_from_others_of_its_batch() {
        const DIFFERENT: i32 = INVALID_DIFFERENT_RECORD;
        const DENIED: i32 = 29;
        for (codes, expected) in [
            (
                &[DIFFERENT, INVALID_RECORD, DIFFERENT, INVALID_RECORD][..],
                &[1, 3][..],
            ),
            (&[DIFFERENT, INVALID_TIMESTAMP], &[1]),
            (&[INVALID_RECORD], &[0]),
            (&[MSG_SIZE_TOO_LARGE], &[0]),
            // All are, or the broker does not say which.
            (&[INVALID_RECORD, INVALID_RECORD], &[]),
            (&[DENIED], &[]),
            (&[PURGE_QUEUE, PURGE_QUEUE], &[]),
            (&[0, 0], &[]),
        ] {
            let mut batch = BatchReport::default();
            for (tag, code) in codes.iter().enumerate() {
                batch.take(tag, *code, String::new);
            }
            let named: Vec<_> = batch.named().iter().map(|record| record.tag).collect();
            assert_eq!(named, expected, "{codes:?}");
        }
    }

    #[test]
    fn the_lowest_tag_is_that_of_any_record_that_was_not_delivered() {
        let mut batch = BatchReport::default();
        assert_eq!(batch.lowest_failed(), None);
        for (tag, code) in [
            (0, INVALID_RECORD),
            (3, 0),
            (9, PURGE_QUEUE),
            (7, INVALID_RECORD),
            (8, 1),
        ] {
            batch.take(tag, code, String::new);
        }
        assert_eq!(batch.lowest_failed(), Some(7));
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
