//! Client configurations, all from one set of properties.

use rdkafka::ClientConfig;

use crate::config::Pipeline;

/// For admin calls and readers.
pub fn client_config(pipeline: &Pipeline) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in common(pipeline) {
        config.set(name, value);
    }
    for (name, value) in &pipeline.kafka.properties {
        if !is_producer_only(name) {
            config.set(name, value.expose());
        }
    }
    config
}

/// For a producer: defaults, then the user's properties, then what the guarantees rest on.
pub(super) fn producer_config<'a>(
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
    for (name, value) in &pipeline.kafka.properties {
        properties.push((name, value.expose().to_owned()));
    }
    properties.push(("enable.idempotence", "true".to_owned()));
    properties.extend(fixed.iter().cloned());
    properties
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
