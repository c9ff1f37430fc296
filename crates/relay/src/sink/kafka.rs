//! Client configurations, all from one set of properties.

use std::time::Duration;

use producer::{Admin, ClientError, GroupReader, Producer};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use super::error;
use crate::config::{Pipeline, Property};
use crate::failure::Failure;

/// How long the coordinator may take to hand out a transactional id.
const TRIAL_PATIENCE: Duration = Duration::from_secs(15);

/// For admin calls and readers.
pub fn client_config(pipeline: &Pipeline) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in common(pipeline) {
        config.set(name, value);
    }
    for (name, value) in &pipeline.kafka.properties {
        if !is_producer_only(name) {
            config.set(name, value.current());
        }
    }
    config
}

/// For a producer: defaults, then the user's properties, then what the guarantees rest on.
pub(crate) fn producer_config<'a>(
    pipeline: &'a Pipeline,
    fixed: &'a [(&'a str, String)],
) -> Vec<(&'a str, String)> {
    let mut properties: Vec<(&str, String)> = common(pipeline);
    let defaults = [
        ("linger.ms", "0"),
        ("batch.size", "1000000"),
        ("batch.num.messages", "10000"),
        ("compression.type", "lz4"),
        // Windows bound what is queued; this limit must not be the one that bites.
        ("queue.buffering.max.messages", "1000000"),
        ("queue.buffering.max.kbytes", "1048576"),
        ("partitioner", "murmur2_random"),
        ("topic.metadata.propagation.max.ms", "5000"),
    ];
    properties.extend(defaults.map(|(name, value)| (name, value.to_owned())));
    properties.push(("message.max.bytes", largest_message(pipeline).to_string()));
    for (name, value) in &pipeline.kafka.properties {
        properties.push((name, value.current()));
    }
    properties.push(("enable.idempotence", "true".to_owned()));
    // A topic that was deleted is a failure; one made by accident has other partitions and copies.
    properties.push(("allow.auto.create.topics", "false".to_owned()));
    properties.extend(fixed.iter().cloned());
    properties
}

/// librdkafka's default, or more if a record may be larger.
fn largest_message(pipeline: &Pipeline) -> usize {
    const DEFAULT: usize = 1_000_000;
    DEFAULT.max(pipeline.largest_record())
}

fn common(pipeline: &Pipeline) -> Vec<(&'static str, String)> {
    vec![
        ("bootstrap.servers", pipeline.kafka.bootstrap.clone()),
        ("client.id", format!("outboxd-{}", pipeline.name)),
        ("socket.nagle.disable", "true".to_owned()),
        ("reconnect.backoff.ms", "100".to_owned()),
        // An outage ends when the broker is back, not when a long pause is over.
        ("reconnect.backoff.max.ms", "2000".to_owned()),
    ]
}

/// A client that asks how far consumer groups are. Nothing is contacted yet.
pub(crate) fn group_reader(pipeline: &Pipeline) -> Result<GroupReader, Failure> {
    let config = client_config(pipeline);
    GroupReader::new(config.config_map()).map_err(|e| error::create(&e))
}

/// A Kafka error of a command.
pub(crate) fn failure(attempt: &str, error: &KafkaError) -> Failure {
    error::client(attempt, error)
}

/// A client for questions about topics and access control lists.
pub(crate) fn admin(pipeline: &Pipeline) -> Result<Admin, Failure> {
    let properties = producer_config(pipeline, &[]);
    let borrowed = properties
        .iter()
        .map(|(name, value)| (*name, value.as_str()));
    Admin::new(borrowed).map_err(|e| error::create(&e))
}

/// A question that was not answered, or was refused.
pub(crate) fn trouble(error: &ClientError) -> Failure {
    error::trouble(error)
}

/// As `trouble`, of a command that attempted this.
pub(crate) fn trouble_of(attempt: &str, error: &ClientError) -> Failure {
    let failure = trouble(error);
    let message = format!("{attempt}: {}", failure.message);
    Failure { message, ..failure }
}

/// Has librdkafka judge the value of each property. Its reason is shown only where the value may
/// be, for it repeats it.
pub fn check_properties(pipeline: &Pipeline) -> Result<(), Failure> {
    let refusal = |(name, value): (&String, &Property)| {
        let mut alone = ClientConfig::new();
        alone.set(name, value.expose());
        let error = alone.create_native_config().err()?;
        Some(match (value, error) {
            (Property::Plain(_), KafkaError::ClientConfig(_, reason, ..)) => {
                format!("{name}: {reason}")
            }
            (Property::Plain(_) | Property::Secret(_), _) => {
                format!("{name}: its value (not shown) is not one that the property takes")
            }
        })
    };
    let properties = pipeline.kafka.properties.iter();
    let refusals: Vec<_> = properties.filter_map(refusal).collect();
    if refusals.is_empty() {
        return Ok(());
    }
    let message = format!(
        "librdkafka refuses properties of pipeline {:?}: {}",
        pipeline.name,
        refusals.join("; ")
    );
    Err(Failure::new("kafka-config", message))
}

/// Acquires a transactional id under the pipeline's prefix that no relay uses, and so fences none.
/// Returns it. Blocks.
pub fn try_transactional_id(pipeline: &Pipeline) -> Result<String, Failure> {
    let id = format!("{}.doctor", pipeline.kafka.transactional_id_prefix);
    let timeout = pipeline.kafka.transaction_timeout.as_millis().to_string();
    let fixed = [
        ("transactional.id", id.clone()),
        ("transaction.timeout.ms", timeout.clone()),
        ("message.timeout.ms", timeout),
    ];
    let properties = producer_config(pipeline, &fixed);
    let borrowed = properties
        .iter()
        .map(|(name, value)| (*name, value.as_str()));
    let mut producer = Producer::new(borrowed).map_err(|e| error::create(&e))?;
    producer
        .init_transactions(TRIAL_PATIENCE)
        .map_err(|e| error::transaction(&e))?;
    Ok(id)
}

/// Properties that librdkafka warns about on other clients.
fn is_producer_only(name: &str) -> bool {
    const PREFIXES: [&str; 6] = [
        "linger",
        "queue.buffering",
        "batch.",
        "compression",
        "partitioner",
        "sticky.",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn check(properties: &[(&str, Property)]) -> Option<String> {
        let mut pipeline = Pipeline::default();
        for (name, value) in properties {
            let properties = &mut pipeline.kafka.properties;
            properties.insert((*name).into(), value.clone());
        }
        check_properties(&pipeline).err().map(|f| f.to_string())
    }

    fn plain(value: &str) -> Property {
        Property::Plain(value.into())
    }

    #[test]
    fn values_that_librdkafka_takes_pass() {
        let properties = [
            ("linger.ms", plain("5")),
            ("compression.type", plain("zstd")),
        ];
        assert_eq!(check(&properties), None);
    }

    #[test]
    fn every_refused_value_is_named_and_no_secret_is_shown() {
        let hidden = Property::Secret(Secret::new("hunter2"));
        let message = check(&[
            ("linger.ms", plain("soon")),
            ("compression.type", plain("none")),
            ("security.protocol", hidden),
        ]);
        let message = message.unwrap_or_default();
        assert!(message.contains("linger.ms"), "{message}");
        assert!(message.contains("security.protocol"), "{message}");
        assert!(message.contains("kafka-config"), "{message}");
        assert!(!message.contains("compression.type"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}
