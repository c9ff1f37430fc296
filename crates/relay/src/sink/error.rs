//! Kafka errors → failures.

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
        33 | 34 | 58 | -169 => "kafka-auth",
        -144 | 47 | 90 | 48 | 59 => "kafka-fenced",
        -195 | -193 | -187 | -185 | -192 | -180 => "kafka-unreachable",
        _ => return None,
    })
}

pub(super) fn create(error: &CreateError) -> Failure {
    Failure::caused("kafka-config", "creating a Kafka producer", error)
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

pub(super) fn delivery(error: &DeliveryError) -> Failure {
    Failure::new(
        by_code(error.code).unwrap_or("kafka-delivery"),
        error.to_string(),
    )
}

pub(super) fn produce(error: &ProduceError) -> Failure {
    let code = match error {
        ProduceError::QueueFull => "kafka-delivery",
        ProduceError::Refused { code, .. } => by_code(*code).unwrap_or("kafka-delivery"),
    };
    Failure::new(code, error.to_string())
}

pub(super) fn trouble(error: &ClientError) -> Failure {
    let code = by_code(error.code).unwrap_or("kafka-unreachable");
    Failure::new(code, format!("{} ({})", error.message, error.name))
}

/// What a lane's end means: that of a window which was refused for what is in it, or another one.
pub(super) fn report(failure: Failure) -> Report {
    const OF_EVENTS: [&str; 4] = [
        "topic-missing",
        "topic-denied",
        "event-too-large",
        "unpublishable-event",
    ];
    if !OF_EVENTS.contains(&failure.code.name) {
        return Report::Failed(failure);
    }
    let reason = failure.message;
    Report::Refused(Failure::new("window-refused", reason))
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
