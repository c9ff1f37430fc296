//! The reference page, the annotated example and `config print` say what is true.

use super::{Given, KEYRING, LEAST, from_toml};
use crate::config::keys::{CONSUMER, GLOBAL, Key, PIPELINE, TABLE};
use crate::config::{Config, example, print, reference};
use crate::documents::check_document;

#[test]
fn the_reference_page_is_up_to_date() {
    check_document("configuration.md", &reference());
}

#[test]
fn the_example_is_up_to_date() {
    check_document("outboxd.example.toml", &example());
}

#[test]
fn the_example_loads_as_the_defaults() {
    assert_eq!(from_toml(&example()), Config::default());
}

#[test]
fn the_example_shows_every_key_with_its_default() {
    /// `always`: the section is there without being asked for.
    fn check<T>(keys: &'static [Key<T>], example: &str, always: bool) {
        for key in keys {
            let name = key.path.rsplit('.').next().unwrap();
            let shown = |mark: &str| example.contains(&format!("\n{mark}{name} = "));
            let expected = if key.open.is_some() || !always {
                shown("#") || shown("")
            } else {
                shown("")
            };
            assert!(expected, "{}", key.path);
        }
    }
    let example = example();
    check(GLOBAL, &example, true);
    check(PIPELINE, &example, true);
    check(TABLE, &example, true);
    check(CONSUMER, &example, false);
}

#[test]
fn every_example_of_a_key_without_default_loads() {
    fn check<T>(keys: &'static [Key<T>], header: &str) {
        for (key, open) in keys
            .iter()
            .filter_map(|key| Some((key, key.open.as_ref()?)))
        {
            // Keys that stand in for the URL, and keys that need another.
            let rest = match key.path {
                "postgres.url" => "",
                "postgres.hosts" => "postgres.database = 'd'",
                "postgres.database" => "postgres.hosts = ['h']",
                "postgres.sslcert" => "postgres.url = 'postgres://h/d'\npostgres.sslkey = '/k'",
                "postgres.sslkey" => "postgres.url = 'postgres://h/d'\npostgres.sslcert = '/c'",
                "decrypt.keyring_file" | "decrypt.keyring" => {
                    "postgres.url = 'postgres://h/d'\ndecrypt.topics = ['recon.*']"
                }
                "postgres.write_back_password" => {
                    "postgres.url = 'postgres://h/d'\npostgres.write_back_user = 'w'"
                }
                _ => "postgres.url = 'postgres://h/d'",
            };
            let toml = format!(
                "[[pipelines]]\nsink = 'stdout'\n{rest}\n{header}\n{} = {}\n",
                key.path, open.example
            );
            let env: &[_] = &[
                ("DB_PASSWORD", "x"),
                ("KAFKA_PASSWORD", "x"),
                ("OUTBOX_KEYRING", KEYRING),
            ];
            let files: &[_] = &[
                ("/run/secrets/outboxd-password", "x"),
                ("/run/secrets/outboxd-write-back", "x"),
            ];
            let loaded = Given {
                toml: Some(&toml),
                env,
                files,
                ..Given::default()
            }
            .load();
            assert!(loaded.is_ok(), "{toml}\n{loaded:?}");
        }
    }
    check(PIPELINE, "");
    check(TABLE, "[[pipelines.tables]]");
    check(&CONSUMER[..1], "[[pipelines.consumers]]");
    check(&CONSUMER[1..], "[[pipelines.consumers]]\ngroup = 'g'");
    for (key, open) in GLOBAL
        .iter()
        .filter_map(|key| Some((key, key.open.as_ref()?)))
    {
        let companion = match key.path {
            "admin.tls_cert" => "admin.tls_key = '/k'",
            "admin.tls_key" => "admin.tls_cert = '/c'",
            _ => "",
        };
        let (path, example) = (key.path, open.example);
        let toml = format!("{path} = {example}\n{companion}\n{LEAST}");
        let loaded = Given {
            toml: Some(&toml),
            files: &[("/run/secrets/outboxd-admin", "0123456789abcdef")],
            ..Given::default()
        }
        .load();
        assert!(loaded.is_ok(), "{toml}\n{loaded:?}");
    }
}

#[test]
fn what_is_printed_reads_back_as_the_same_configuration() {
    let toml = format!(
        "{LEAST}\
         name = 'one'\n\
         concurrency = 7\n\
         kafka.topics.replication_factor = 2\n\
         topics.deny = ['transfers.secret']\n\
         [pipelines.retry]\n\
         multiplier = 1.5\n\
         max_backoff = '90s'\n\
         [pipelines.decrypt]\n\
         topics = ['recon.*', 'compliance.flagged']\n\
         keyring_file = '/run/keyring.json'\n\
         [pipelines.kafka.properties]\n\
         linger.ms = 5\n\
         'client.id' = 'quote \" and \\ and ü'\n\
         [[pipelines.tables]]\n\
         table = 'events'\n\
         columns.seq = ''\n\
         columns.transfer_id = 'aggregate'\n\
         header_columns = {{ traceparent = 'trace' }}\n\
         format = 'payload'\n\
         [[pipelines.consumers]]\n\
         group = 'ledger'\n\
         topics = ['transfers.*']\n\
         offset_reset = 'latest'\n\
         [[pipelines.consumers]]\n\
         group = 'recon 2'\n\
         service = 'recon'\n\
         [[pipelines]]\n\
         name = 'two'\n\
         sink = 'stdout'\n\
         postgres.hosts = ['a:1', '[::1]:2', '/run/pg:3']\n\
         postgres.database = 'd'\n\
         [log]\n\
         events = true\n"
    );
    for config in [from_toml(&toml), from_toml(LEAST), Config::default()] {
        let printed = print(&config);
        assert_eq!(from_toml(&printed), config, "{printed}");
    }
}
