//! Asking brokers that may not let us in: a request that times out does not say why, the client's own
//! complaints do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use super::kafka;
use crate::failure::Failure;

/// How long complaints are waited for once a request has failed.
const COMPLAINTS: Duration = Duration::from_millis(200);
/// Whoever is not let in is told so within this time, and not only when all patience is at its end.
const STEP: Duration = Duration::from_secs(2);
const REFUSED: &str = "kafka-auth";

/// All topics, with their partitions: naming one could create it. Blocks for at most about `patience`.
pub(crate) fn metadata(config: &ClientConfig, patience: Duration) -> Result<Metadata, Failure> {
    let complaints = Complaints::default();
    let client: BaseProducer<Complaints> = config
        .create_with_context(complaints.clone())
        .map_err(|e| kafka::failure("creating a Kafka client", &e))?;
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let error = match client.client().fetch_metadata(None, STEP.min(left)) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        client.poll(COMPLAINTS);
        let failure = complaints.explain("asking the brokers for their topics", &error);
        if failure.code.name != "kafka-unreachable" || Instant::now() >= deadline {
            return Err(failure);
        }
    }
}

/// The complaint that tells most: that we are not let in, else the first one, which names the broker;
/// later ones only say that all of them are down.
#[derive(Clone, Default)]
struct Complaints(Arc<Mutex<Option<(KafkaError, String)>>>);

impl Complaints {
    fn explain(&self, attempt: &str, error: &KafkaError) -> Failure {
        let complaint = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*complaint {
            Some((cause, reason)) => {
                let code = kafka::failure(attempt, cause).code;
                Failure {
                    code,
                    message: format!("{attempt}: {reason}"),
                }
            }
            None => kafka::failure(attempt, error),
        }
    }
}

impl ClientContext for Complaints {
    fn error(&self, error: KafkaError, reason: &str) {
        let mut complaint = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_refusal = |error: &KafkaError| kafka::failure("", error).code.name == REFUSED;
        let tells_more = match &*complaint {
            None => true,
            Some((known, _)) => is_refusal(&error) && !is_refusal(known),
        };
        if tells_more {
            *complaint = Some((error, reason.to_owned()));
        }
    }
}

impl ProducerContext for Complaints {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {}
}

#[cfg(test)]
mod tests {
    use rdkafka::error::RDKafkaErrorCode::{
        AllBrokersDown, Authentication, BrokerTransportFailure, OperationTimedOut,
    };

    use super::*;

    #[test]
    fn whoever_is_not_let_in_is_told_so() {
        let of = |codes: &[_]| {
            let complaints = Complaints::default();
            for code in codes {
                complaints.error(KafkaError::Global(*code), &format!("{code:?}"));
            }
            let error = KafkaError::MetadataFetch(OperationTimedOut);
            let failure = complaints.explain("asking", &error);
            (failure.code.name, failure.message)
        };
        for codes in [
            &[Authentication, AllBrokersDown][..],
            &[BrokerTransportFailure, Authentication, AllBrokersDown],
        ] {
            let expected = ("kafka-auth", "asking: Authentication".to_owned());
            assert_eq!(of(codes), expected);
        }
        let (code, message) = of(&[BrokerTransportFailure, AllBrokersDown]);
        assert_eq!(code, "kafka-unreachable");
        assert_eq!(message, "asking: BrokerTransportFailure");
        assert_eq!(of(&[]).0, "kafka-unreachable");
    }
}
