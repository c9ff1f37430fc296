//! Which librdkafka properties pass through, and why some do not.
//!
//! Names: `CONFIGURATION.md` of librdkafka 2.12, without those that only C code can set.

use super::error::{Fault, quoted};
use super::nearest::nearest;

/// Properties that are refused, with the reason: the relay sets them, or a guarantee hangs on them.
struct Refusal {
    names: &'static [&'static str],
    /// Values that pass all the same.
    permits: fn(&str) -> bool,
    why: &'static str,
    remedy: &'static str,
}

const fn refuse(
    names: &'static [&'static str],
    why: &'static str,
    remedy: &'static str,
) -> Refusal {
    Refusal {
        names,
        permits: |_| false,
        why,
        remedy,
    }
}

const REFUSALS: &[Refusal] = &[
    refuse(
        &["bootstrap.servers", "metadata.broker.list"],
        "the brokers have a key of their own",
        "use kafka.bootstrap",
    ),
    refuse(
        &["enable.idempotence"],
        "both modes need the idempotent producer: without it a retried batch can be written twice \
         or out of order",
        "remove it",
    ),
    refuse(
        &["acks", "request.required.acks"],
        "an event counts as published only when all in-sync replicas have it (acks=all): with less \
         it can be lost with one broker",
        "remove it",
    ),
    Refusal {
        names: &["max.in.flight", "max.in.flight.requests.per.connection"],
        permits: |value| matches!(value, "1" | "2" | "3" | "4" | "5"),
        why: "the idempotent producer keeps order with at most 5 requests in flight",
        remedy: "use 1 to 5, or remove it",
    },
    Refusal {
        names: &["socket.max.fails"],
        permits: |value| value == "1",
        why: "a request that times out must close its connection, or nobody could tell that it was \
              sent twice",
        remedy: "remove it",
    },
    refuse(
        &["retries", "message.send.max.retries"],
        "a message that runs out of retries leaves a hole in its window",
        "remove it: transient failures are retried without end, see the keys under retry",
    ),
    refuse(
        &["message.timeout.ms", "delivery.timeout.ms"],
        "a message that times out leaves a hole in its window",
        "remove it: kafka.transaction_timeout bounds a window",
    ),
    refuse(
        &["transactional.id"],
        "each producer of the ring has an id of its own, which fences its predecessor",
        "use kafka.transactional_id_prefix",
    ),
    refuse(
        &["transaction.timeout.ms"],
        "the transaction timeout has a key of its own",
        "use kafka.transaction_timeout",
    ),
    refuse(
        &["delivery.report.only.error"],
        "without a report for each message the relay cannot know that a window is complete",
        "remove it",
    ),
    refuse(
        &["allow.auto.create.topics"],
        "a topic that a broker creates by accident has the wrong partitions and replicas",
        "remove it and create topics with `outboxd init`",
    ),
    Refusal {
        names: &["partitioner"],
        permits: |value| matches!(value, "murmur2" | "murmur2_random"),
        why: "keys must go to the partitions that Java clients choose, or their order is lost \
              between producers",
        remedy: "use murmur2 or murmur2_random, or remove it",
    },
    Refusal {
        names: &["queuing.strategy"],
        permits: |value| value == "fifo",
        why: "lifo gives up commit order",
        remedy: "remove it",
    },
    refuse(
        CONSUMER,
        "it concerns consumers, and the only one here reads checkpoints in a fixed way \
         (read_committed, from the beginning, without a group)",
        "remove it",
    ),
];

/// Checks one property before it is passed through.
pub(super) fn check(name: &str, value: &str) -> Result<(), Fault> {
    if let Some(refusal) = REFUSALS
        .iter()
        .find(|refusal| refusal.names.contains(&name))
    {
        return if (refusal.permits)(value) {
            Ok(())
        } else {
            Err(Fault::new(
                format!("cannot be set: {}", refusal.why),
                refusal.remedy,
            ))
        };
    }
    if PASSED.contains(&name) {
        return Ok(());
    }
    let remedy = match nearest(name, PASSED.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "remove it; see CONFIGURATION.md of librdkafka 2.12 for the names".to_string(),
    };
    Err(Fault::new(
        format!("librdkafka has no property {}", quoted(name)),
        remedy,
    ))
}

/// Whether a property is to be redacted: by its name, or because it is a URL with a password.
pub(super) fn is_secret(name: &str, value: &str) -> bool {
    const MARKS: [&str; 6] = [
        "password",
        "secret",
        "passphrase",
        "key.pem",
        "oauthbearer.config",
        "token",
    ];
    MARKS.iter().any(|mark| name.contains(mark)) || (value.contains("://") && value.contains('@'))
}

/// Properties that are passed through.
const PASSED: &[&str] = &[
    "api.version.fallback.ms",
    "api.version.request",
    "api.version.request.timeout.ms",
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "broker.version.fallback",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "debug",
    "enable.gapless.guarantee",
    "enable.metrics.push",
    "enable.random.seed",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "enable.ssl.certificate.verification",
    "https.ca.location",
    "https.ca.pem",
    "linger.ms",
    "log.connection.close",
    "log.thread.name",
    "log_level",
    "message.copy.max.bytes",
    "message.max.bytes",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "plugin.library.paths",
    "produce.offset.report",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "receive.message.max.bytes",
    "reconnect.backoff.jitter.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.kerberos.keytab",
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.principal",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.assertion.algorithm",
    "sasl.oauthbearer.assertion.claim.aud",
    "sasl.oauthbearer.assertion.claim.exp.seconds",
    "sasl.oauthbearer.assertion.claim.iss",
    "sasl.oauthbearer.assertion.claim.jti.include",
    "sasl.oauthbearer.assertion.claim.nbf.seconds",
    "sasl.oauthbearer.assertion.claim.sub",
    "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.jwt.template.file",
    "sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.grant.type",
    "sasl.oauthbearer.metadata.authentication.type",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "socket.blocking.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.certificate.stores",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.engine.id",
    "ssl.engine.location",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.providers",
    "ssl.sigalgs.list",
    "statistics.interval.ms",
    "sticky.partitioning.linger.ms",
    "topic.blacklist",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.cnt",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
];

/// Properties of consumers.
const CONSUMER: &[&str] = &[
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "check.crcs",
    "consume.callback.max.messages",
    "coordinator.query.interval.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "offset.store.method",
    "offset.store.path",
    "offset.store.sync.interval.ms",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "session.timeout.ms",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn properties_that_would_break_a_guarantee_are_refused_with_the_reason() {
        let check = |name, value, part: &str| {
            let fault = super::check(name, value).unwrap_err();
            assert!(fault.problem.contains(part), "{name}: {}", fault.problem);
        };
        check("enable.idempotence", "false", "written twice");
        check("acks", "1", "all in-sync replicas");
        check("transactional.id", "x", "fences");
        check("isolation.level", "read_uncommitted", "consumers");
        check("enable.auto.commit", "true", "consumers");
        check("partitioner", "consistent_random", "Java clients");
        check("message.timeout.ms", "1000", "hole in its window");
        check("retries", "3", "hole in its window");
        check("max.in.flight", "6", "at most 5");
        check("queuing.strategy", "lifo", "commit order");
        check("bootstrap.servers", "b:9092", "a key of their own");
        check("test.mock.num.brokers", "3", "no property");
    }

    #[test]
    fn other_properties_pass() {
        let check = |name, value| assert_eq!(super::check(name, value), Ok(()), "{name}");
        check("linger.ms", "5");
        check("compression.type", "zstd");
        check("sasl.password", "x");
        check("ssl.ca.location", "/ca.pem");
        check("partitioner", "murmur2_random");
        check("max.in.flight", "5");
        check("queuing.strategy", "fifo");
    }

    #[test]
    fn an_unknown_property_names_the_nearest() {
        let fault = super::check("sasl.pasword", "x").unwrap_err();
        assert_eq!(fault.remedy, "did you mean \"sasl.password\"?");
    }

    #[test]
    fn secrets_are_known_by_their_names_and_urls() {
        let check = |name, value, expected| assert_eq!(is_secret(name, value), expected, "{name}");
        check("sasl.password", "x", true);
        check("ssl.key.pem", "x", true);
        check("sasl.oauthbearer.client.secret", "x", true);
        check("sasl.oauthbearer.extensions", "https://me:pw@host", true);
        check("ssl.key.location", "/key.pem", false);
        check("linger.ms", "5", false);
    }
}
