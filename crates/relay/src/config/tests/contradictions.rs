//! Settings that are right alone and wrong together, or not enough.

use crate::config::KeyringSource;

use super::{Given, KEYRING, LEAST, check, from_toml, message, messages};

#[test]
fn keys_that_contradict_each_other_are_refused() {
    check(
        "retry.initial_backoff = '1m'",
        "retry.initial_backoff",
        "retry.initial_backoff is above retry.max_backoff",
        "raise retry.max_backoff or lower retry.initial_backoff",
    );
    check(
        "batch.max_bytes = '64KiB'",
        "batch.max_bytes",
        "event.max_bytes is above batch.max_bytes: such an event would fit into no window",
        "raise batch.max_bytes or lower event.max_bytes",
    );
    check(
        "batch.max_wait = '9s'\nkafka.transaction_timeout = '10s'",
        "batch.max_wait",
        "batch.max_wait leaves less than half of kafka.transaction_timeout for the commit",
        "raise kafka.transaction_timeout or lower batch.max_wait",
    );
    check(
        "kafka.topics = { replication_factor = 1, min_insync_replicas = 2 }",
        "kafka.topics.min_insync_replicas",
        "kafka.topics.min_insync_replicas is above kafka.topics.replication_factor: nothing could be written",
        "lower it; one less than the replicas survives the loss of one broker",
    );
    check(
        "kafka.properties.message.max.bytes = 1000",
        "kafka.properties",
        "message.max.bytes is below event.max_bytes: librdkafka would refuse events that are allowed",
        "raise message.max.bytes or lower event.max_bytes",
    );
    check(
        "postgres.sslkey = '/k'",
        "postgres.sslkey",
        "needs postgres.sslcert",
        "give the key's certificate, or remove it",
    );
    check(
        "postgres.user = 'me'",
        "postgres.user",
        "is given twice: here and in postgres.url",
        "keep one of the two",
    );
}

#[test]
fn what_is_exported_needs_a_collector() {
    for key in ["metrics", "logs"] {
        let text = format!("otlp.{key} = true\n{LEAST}");
        let found = message(&Given {
            toml: Some(&text),
            ..Given::default()
        });
        let expected = format!(
            "otlp.{key}: needs otlp.endpoint\n    remedy: give the URL of a collector, or set this to false"
        );
        assert!(found.contains(&expected), "{found}");
        let endpoint = "otlp.endpoint = 'http://localhost:4318'\n";
        from_toml(&format!("{endpoint}{text}"));
    }
}

#[test]
fn what_is_decrypted_needs_one_keyring() {
    check(
        "decrypt.topics = ['recon.*']",
        "decrypt.topics",
        "needs a keyring",
        "give decrypt.keyring_file, or decrypt.keyring = { env = \"NAME\" }",
    );
    let unused = "list topics in decrypt.topics, or remove the keyring: the relay needs none to pass \
                  ciphertext through";
    check(
        "decrypt.keyring_file = '/k'",
        "decrypt.keyring_file",
        "nothing is to be decrypted",
        unused,
    );
    check(
        "decrypt = { topics = ['recon.*'], keyring_file = '/k', keyring = '{}' }",
        "decrypt.keyring",
        "the keyring is given twice",
        "remove decrypt.keyring or decrypt.keyring_file",
    );
    check(
        "decrypt = { topics = ['recon.*'], keyring = '{}' }",
        "decrypt.keyring",
        "the keyring is no JWK Set: line 1, column 2: a member is missing or of another type",
        "make it with `outboxd keys generate`, and give its whole text",
    );
    let toml = format!("{LEAST}decrypt = {{ topics = ['recon.*'], keyring = {{ env = 'K' }} }}\n");
    let config = Given {
        toml: Some(&toml),
        env: &[("K", KEYRING)],
        ..Given::default()
    };
    let decrypt = config.load().unwrap().pipelines.remove(0).decrypt.unwrap();
    assert!(decrypt.topics[0].matches("recon.matched"));
    let KeyringSource::Text(text) = decrypt.keyring else {
        panic!("{decrypt:?}");
    };
    assert_eq!(text.expose(), KEYRING);
}

#[test]
fn librdkafka_properties_that_break_guarantees_are_refused() {
    check(
        "kafka.properties.acks = 1",
        "kafka.properties.\"acks\"",
        "cannot be set: an event counts as published only when all in-sync replicas have it (acks=all): with less it can be lost with one broker",
        "remove it",
    );
    check(
        "kafka.properties.'transactional.id' = 'x'",
        "kafka.properties.\"transactional.id\"",
        "cannot be set: each producer of the ring has an id of its own, which fences its predecessor",
        "use kafka.transactional_id_prefix",
    );
    check(
        "kafka.properties.lingr.ms = 1",
        "kafka.properties.\"lingr.ms\"",
        "librdkafka has no property \"lingr.ms\"",
        "did you mean \"linger.ms\"?",
    );
}

#[test]
fn tables_stand_once() {
    let expected = "  outboxd.toml:5: pipelines[0].tables[1].table: public.a stands twice in this pipeline\n    remedy: remove one of the two, or name another table";
    let toml = "tables = [{ table = 'a' }, {\ntable = 'a' }, { schema = 'other', table = 'a' }]";
    assert_eq!(messages(toml), expected);
}

#[test]
fn consumers_have_a_group_and_a_service_of_their_own() {
    let toml = "consumers = [{ group = 'a' }, {\ntopics = ['x'] }, {\ngroup = 'b', service = 'a' }, {\ngroup = 'c', topics = ['ü'] }]";
    let messages = messages(toml);
    for expected in [
        "pipelines[0].consumers[1].group: no group is given\n    remedy: give group its group.id",
        "outboxd.toml:6: pipelines[0].consumers[2].service: a is the service of another consumer too",
        "outboxd.toml:7: pipelines[0].consumers[3].topics: topic pattern",
    ] {
        assert!(messages.contains(expected), "{messages}");
    }
    let one = "pipelines.consumers = { group = 'a' }".replace("pipelines.", "");
    let messages = super::messages(&one);
    assert!(
        messages.contains("write [[pipelines.consumers]]"),
        "{messages}"
    );
}

#[test]
fn pipelines_share_neither_name_nor_slot_nor_topics() {
    let second = "[[pipelines]]\n\
                  kafka.bootstrap = 'localhost:9092'\n\
                  postgres.url = 'postgres://relay@localhost/other'\n";
    let messages = messages(second);
    for expected in [
        "pipelines[1].name: outbox is the name of pipelines[0] too",
        "pipelines[1].postgres.slot: outboxd is on the same server the slot of pipelines[0] too",
        "pipelines[1].kafka.checkpoint_topic: outboxd.checkpoint.outbox is the checkpoint topic of \
         pipelines[0] too",
        "pipelines[1].kafka.transactional_id_prefix: outboxd.outbox is the transactional id prefix \
         of pipelines[0] too",
    ] {
        assert!(messages.contains(expected), "{messages}");
    }
    // Only the name differs, and another server may have a slot of the same name.
    let second = second.replace("localhost/other", "remote/other");
    let config = from_toml(&format!("{LEAST}{second}name = 'second'\n"));
    assert_eq!(config.pipelines.len(), 2);
    for pipeline in &config.pipelines {
        let denied: Vec<_> = pipeline.topics.deny.iter().map(String::as_str).collect();
        assert_eq!(
            denied,
            [
                "outbox.dead-letter",
                "outboxd.checkpoint.outbox",
                "outboxd.checkpoint.second"
            ]
        );
    }
}

#[test]
fn half_a_connection_says_which_half_is_missing() {
    let check = |lines: &str, expected: &str| {
        let toml = format!("[[pipelines]]\nsink = 'stdout'\n{lines}");
        let message = message(&Given {
            toml: Some(&toml),
            ..Given::default()
        });
        assert_eq!(
            message,
            format!("the configuration has 1 error\n  {expected}")
        );
    };
    check(
        "postgres.url = 'postgres://h'",
        "outboxd.toml:3: pipelines[0].postgres.database: no database is given\n    remedy: put it \
         into the URL, or set database",
    );
    check(
        "postgres.database = 'd'",
        "pipelines[0].postgres.hosts: no server is given\n    remedy: put it into the URL, or set \
         hosts",
    );
    check(
        "postgres.url = { env = 'ABSENT' }",
        "outboxd.toml:3: pipelines[0].postgres.url: the environment variable ABSENT is not set\n    \
         remedy: set it, or name another",
    );
}
