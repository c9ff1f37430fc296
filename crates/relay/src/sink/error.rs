//! Kafka errors → failures.

use delivery::{Refusal, RefusalCause, RefusedEvent};
use producer::{
    ClientError, CreateError, DeliveryError, ErrorClass, ProduceError, TransactionError,
};
use rdkafka::error::KafkaError;

use super::Report;
use crate::failure::Failure;

/// What an error code means, whichever call it came from. Codes: `rdkafka.h`, `RD_KAFKA_RESP_ERR`.
fn by_code(code: i32) -> Option<&'static str> {
    Some(match code {
        3 | -188 | -190 => "topic-missing",
        29 => "topic-denied",
        53 => "transactional-id-denied",
        31 => "permission-denied",
        10 | 18 => "event-too-large",
        // The last one: another record in its batch is invalid.
        32 | 87 | -138 => "unpublishable-event",
        33 | 34 | 58 | -169 | -181 => "kafka-auth",
        -144 | 47 | 90 | 48 | 59 => "kafka-fenced",
        -195 | -193 | -187 | -185 | -192 | -180 => "kafka-unreachable",
        _ => return None,
    })
}

pub(super) fn create(error: &CreateError) -> Failure {
    Failure::caused("kafka-config", "creating a Kafka client", error)
}

/// Why a lane ends.
#[derive(Debug)]
pub(super) enum Ended {
    /// What was under way has an unknown outcome.
    Failed(Failure),
    /// A window was refused.
    Refused(Refusal),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Ended {
    /// What a failure means that was met on the way to a topic.
    fn at(topic: &str, failure: Failure) -> Self {
        let cause = match failure.code.name {
            "topic-missing" => RefusalCause::TopicMissing,
            "topic-denied" => RefusalCause::TopicDenied,
            "event-too-large" | "unpublishable-event" => RefusalCause::Contents,
            _ => return Self::Failed(failure),
        };
        Self::Refused(Refusal {
            topic: topic.to_owned(),
            cause,
            reason: failure.message,
            events: Vec::new(),
        })
    }

    /// With the events that the brokers have named, if it is what is in a window.
    pub fn naming(self, events: Vec<RefusedEvent>) -> Self {
        match self {
            Self::Refused(refusal) if refusal.cause == RefusalCause::Contents => {
                Self::Refused(Refusal { events, ..refusal })
            }
            other => other,
        }
    }

    /// Of what goes to the checkpoint topic alone: no event has to do with what is wrong with that.
    pub fn at_checkpoint(self) -> Failure {
        let Refusal { cause, reason, .. } = match self {
            Self::Failed(failure) => return failure,
            Self::Refused(refusal) => refusal,
        };
        let code = match cause {
            RefusalCause::TopicMissing => "topic-missing",
            RefusalCause::TopicDenied => "topic-denied",
            RefusalCause::Contents => "checkpoint-topic",
        };
        Failure::new(code, reason)
    }

    /// Tells the session.
    pub fn report(self, checkpoint_topic: &str) -> Report {
        let refusal = match self {
            Self::Refused(refusal) if refusal.topic != checkpoint_topic => refusal,
            other => return Report::Failed(other.at_checkpoint()),
        };
        let code = match refusal.cause {
            RefusalCause::TopicMissing | RefusalCause::TopicDenied => "topic-refused",
            RefusalCause::Contents => "window-refused",
        };
        Report::Refused(Failure::new(code, refusal.reason.clone()), refusal)
    }
}

pub(super) fn transaction(error: &TransactionError) -> Failure {
    let fallback = match error.class {
        ErrorClass::Fatal if error.is_fenced() => "kafka-fenced",
        ErrorClass::Fatal
        | ErrorClass::RequiresAbort
        | ErrorClass::Retriable
        | ErrorClass::Unclassified => "kafka-delivery",
    };
    Failure::new(by_code(error.code).unwrap_or(fallback), error.to_string())
}

pub(super) fn delivery(error: &DeliveryError) -> Ended {
    let code = by_code(error.code).unwrap_or("kafka-delivery");
    Ended::at(&error.topic, Failure::new(code, error.to_string()))
}

/// Of a transaction that has to be aborted. librdkafka does not say for which topic.
pub(super) fn aborted(error: &TransactionError) -> Ended {
    Ended::at("", transaction(error))
}

pub(super) fn produce(error: &ProduceError) -> Ended {
    let (topic, code) = match error {
        ProduceError::QueueFull => ("", "kafka-delivery"),
        ProduceError::Refused { code, topic, .. } => {
            (topic.as_str(), by_code(*code).unwrap_or("kafka-delivery"))
        }
    };
    Ended::at(topic, Failure::new(code, error.to_string()))
}

/// `RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN`.
const ALL_BROKERS_DOWN: i32 = -187;

pub(super) fn trouble(error: &ClientError) -> Failure {
    let code = by_code(error.code).unwrap_or("kafka-unreachable");
    let said = match error.code {
        // It counts those whose connection has just gone, so that all of them may be none.
        ALL_BROKERS_DOWN => "no broker can be reached",
        _ => &*error.message,
    };
    Failure::new(code, format!("{said} ({})", error.name))
}

/// An error of the safe client: metadata, admin, reader.
pub(crate) fn client(attempt: &str, error: &KafkaError) -> Failure {
    let code = error.rdkafka_error_code().map(|code| code as i32);
    let known = code.and_then(by_code);
    let fallback = match error {
        KafkaError::ClientConfig(..) => "kafka-config",
        _ => "kafka-unreachable",
    };
    Failure::new(known.unwrap_or(fallback), format!("{attempt}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(topic: &str, code: i32) -> Report {
        let error = DeliveryError {
            topic: topic.into(),
            code,
            name: String::new(),
            message: "refused".into(),
        };
        delivery(&error).report("checkpoints")
    }

    #[test]
    fn a_topic_that_takes_nothing_is_told_from_an_event_that_is_not_taken() {
        for (code, expected, cause) in [
            (3, "topic-refused", RefusalCause::TopicMissing),
            (29, "topic-refused", RefusalCause::TopicDenied),
            (87, "window-refused", RefusalCause::Contents),
        ] {
            let Report::Refused(failure, refusal) = failed("events", code) else {
                panic!("{code} is no refusal");
            };
            assert_eq!((failure.code.name, refusal.cause), (expected, cause));
            assert_eq!(refusal.topic, "events");
        }
    }

    #[test]
    fn no_window_is_refused_for_what_is_wrong_with_the_checkpoint_topic() {
        for (code, expected) in [
            (3, "topic-missing"),
            (29, "topic-denied"),
            (10, "checkpoint-topic"),
        ] {
            let Report::Failed(failure) = failed("checkpoints", code) else {
                panic!("{code} is taken for a refusal of events");
            };
            assert_eq!(failure.code.name, expected);
        }
    }

    #[test]
    fn a_partition_that_may_not_be_part_of_a_transaction_is_a_matter_of_its_topic() {
        let error = TransactionError {
            call: "commit_transaction",
            code: 29,
            name: "TOPIC_AUTHORIZATION_FAILED".into(),
            message: "failed to add partitions".into(),
            class: ErrorClass::RequiresAbort,
        };
        let report = aborted(&error).report("checkpoints");
        let is_topic = |refusal: &Refusal| refusal.cause == RefusalCause::TopicDenied;
        assert!(matches!(&report, Report::Refused(_, refusal) if is_topic(refusal)));
    }
}
