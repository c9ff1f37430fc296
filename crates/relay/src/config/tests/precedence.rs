//! Defaults, then the file, then the environment, then flags.

use std::time::Duration;

use super::{Given, LEAST, from_env, from_toml, message};
use crate::config::environment::names;
use crate::config::{HostAddr, Mode, Overrides, Pipeline, SinkKind};

fn pipeline(given: &Given<'_>) -> Pipeline {
    given.load().unwrap().pipelines.remove(0)
}

#[test]
fn later_sources_win() {
    let toml = format!("{LEAST}postgres.slot = 'file'\nconcurrency = 3\nbatch.max_events = 7\n");
    let env: &[_] = &[
        ("OUTBOXD_POSTGRES_SLOT", "variable"),
        ("OUTBOXD_CONCURRENCY", "4"),
    ];
    let flags = Overrides {
        slot: Some("flag".into()),
        ..Overrides::default()
    };
    let pipeline = pipeline(&Given {
        toml: Some(&toml),
        env,
        flags,
        ..Given::default()
    });
    assert_eq!(pipeline.postgres.slot, "flag");
    assert_eq!(pipeline.concurrency, 4);
    assert_eq!(pipeline.batch.max_events, 7);
    assert_eq!(pipeline.postgres.publication, "outboxd");
}

#[test]
fn two_flags_are_enough() {
    let flags = Overrides {
        postgres: Some("postgres://relay@localhost:5433/app".into()),
        kafka: Some("localhost:9092".into()),
        ..Overrides::default()
    };
    let config = Given {
        flags,
        ..Given::default()
    }
    .load()
    .unwrap();
    let [pipeline] = &config.pipelines[..] else {
        panic!("{config:?}")
    };
    assert_eq!(
        pipeline.postgres.hosts[0].host,
        HostAddr::Tcp("localhost".into())
    );
    assert_eq!(pipeline.postgres.hosts[0].port, 5433);
    assert_eq!(pipeline.kafka.bootstrap, "localhost:9092");
    assert_eq!(pipeline.tables, [envelope::TableSpec::default()]);
}

#[test]
fn stdout_needs_no_kafka() {
    let flags = Overrides {
        postgres: Some("postgres://localhost/app".into()),
        sink: Some("stdout".into()),
        ..Overrides::default()
    };
    let pipeline = pipeline(&Given {
        flags,
        ..Given::default()
    });
    assert_eq!(pipeline.sink, SinkKind::Stdout);
    assert_eq!(pipeline.kafka.bootstrap, "");
}

#[test]
fn every_flag_sets_its_key() {
    let text = |text: &str| Some(text.to_string());
    let flags = Overrides {
        config: None,
        postgres: text("postgres://h/d"),
        kafka: text("k:1"),
        mode: text("at-least-once"),
        sink: text("stdout"),
        concurrency: text("5"),
        slot: text("s"),
        publication: text("P"),
        admin_listen: text("0.0.0.0:1"),
        log_format: text("text"),
        log_level: text("debug"),
        log_events: Some(true),
    };
    let config = Given {
        flags,
        ..Given::default()
    }
    .load()
    .unwrap();
    let pipeline = &config.pipelines[0];
    assert_eq!(pipeline.postgres.database, "d");
    assert_eq!(pipeline.kafka.bootstrap, "k:1");
    assert_eq!(pipeline.mode, Mode::AtLeastOnce);
    assert_eq!(pipeline.sink, SinkKind::Stdout);
    assert_eq!(pipeline.concurrency, 5);
    assert_eq!(pipeline.postgres.slot, "s");
    assert_eq!(pipeline.postgres.publication, "P");
    assert_eq!(config.admin.listen.to_string(), "0.0.0.0:1");
    assert_eq!(config.log.format.to_string(), "text");
    assert_eq!(config.log.level, "debug");
    assert!(config.log.events);
}

#[test]
fn plain_names_are_read_and_the_prefixed_ones_win() {
    let config = from_env(&[
        ("RETRY_MAX", "9"),
        ("BATCH_SIZE", "500"),
        ("CONCURRENCY", "3"),
        ("BACKOFF_INITIAL_MS", "250"),
        ("BACKOFF_MAX_MS", "60000"),
        ("OUTBOXD_CONCURRENCY", "4"),
    ]);
    let pipeline = &config.pipelines[0];
    assert_eq!(pipeline.retry.max_retries, 9);
    assert_eq!(pipeline.batch.max_events, 500);
    assert_eq!(pipeline.concurrency, 4);
    assert_eq!(pipeline.retry.initial_backoff, Duration::from_millis(250));
    assert_eq!(pipeline.retry.max_backoff, Duration::from_secs(60));
}

#[test]
fn variables_apply_to_every_pipeline_and_table() {
    let toml = format!(
        "{LEAST}[[pipelines]]\nname = 'b'\nkafka.bootstrap = 'k:1'\n\
         postgres.url = 'postgres://other/app'\ntables = [{{ table = 'x' }}, {{ table = 'y' }}]\n"
    );
    let env: &[_] = &[
        ("OUTBOXD_MODE", "at-least-once"),
        ("OUTBOXD_TABLES_TOPIC", "all.{type.domain}"),
        (
            "OUTBOXD_TABLES_HEADER_COLUMNS",
            "traceparent=trace, tenant=tenant_id",
        ),
        ("OUTBOXD_TOPICS_ALLOW", "a.*, b.*"),
    ];
    let config = Given {
        toml: Some(&toml),
        env,
        ..Given::default()
    }
    .load()
    .unwrap();
    assert!(
        config
            .pipelines
            .iter()
            .all(|pipeline| pipeline.mode == Mode::AtLeastOnce)
    );
    let tables: Vec<_> = config
        .pipelines
        .iter()
        .flat_map(|pipeline| &pipeline.tables)
        .collect();
    assert_eq!(tables.len(), 3);
    for table in tables {
        assert_eq!(table.topic.to_string(), "all.{type.domain}");
        let headers: Vec<_> = table
            .headers
            .iter()
            .map(|h| (&*h.header, &*h.column))
            .collect();
        assert_eq!(headers, [("tenant", "tenant_id"), ("traceparent", "trace")]);
    }
    let allow: Vec<_> = config.pipelines[1]
        .topics
        .allow
        .iter()
        .map(|p| p.to_string())
        .collect();
    assert_eq!(allow, ["a.*", "b.*"]);
}

#[test]
fn variables_alone_name_a_consumer() {
    let config = from_env(&[
        ("OUTBOXD_CONSUMERS_GROUP", "ledger"),
        ("OUTBOXD_CONSUMERS_TOPICS", "transfers.*, ledger.*"),
    ]);
    let [consumer] = config.pipelines[0].consumers.as_slice() else {
        panic!("{:?}", config.pipelines[0].consumers);
    };
    assert_eq!((&*consumer.group, &*consumer.service), ("ledger", "ledger"));
    assert_eq!(consumer.topics.len(), 2);
}

#[test]
fn properties_come_from_variables_and_from_names_without_quotes() {
    let toml =
        format!("{LEAST}[pipelines.kafka.properties]\nlinger.ms = 5\nsecurity.protocol = 'SSL'\n");
    let env: &[_] = &[
        ("OUTBOXD_KAFKA_PROPERTIES_SASL_USERNAME", "me"),
        ("OUTBOXD_KAFKA_PROPERTIES_SECURITY_PROTOCOL", "SASL_SSL"),
    ];
    let properties = pipeline(&Given {
        toml: Some(&toml),
        env,
        ..Given::default()
    })
    .kafka
    .properties;
    let shown: Vec<_> = properties
        .iter()
        .map(|(name, value)| (&**name, value.expose()))
        .collect();
    let expected = [
        ("linger.ms", "5"),
        ("sasl.username", "me"),
        ("security.protocol", "SASL_SSL"),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn a_property_that_ends_in_file_is_not_taken_for_a_reference() {
    let toml = format!("{LEAST}kafka.properties.sasl.oauthbearer.assertion.file = '/a.jwt'\n");
    let properties = &from_toml(&toml).pipelines[0].kafka.properties;
    assert_eq!(
        properties["sasl.oauthbearer.assertion.file"].expose(),
        "/a.jwt"
    );
}

#[test]
fn empty_variables_count_as_not_set() {
    assert_eq!(
        from_env(&[("OUTBOXD_MODE", ""), ("CONCURRENCY", "")]),
        from_env(&[])
    );
}

#[test]
fn variables_of_service_links_are_not_settings() {
    let config = from_env(&[
        ("OUTBOXD_SERVICE_HOST", "10.0.0.1"),
        ("OUTBOXD_SERVICE_PORT", "8080"),
        ("OUTBOXD_SERVICE_PORT_HTTP", "8080"),
        ("OUTBOXD_PORT", "tcp://10.0.0.1:8080"),
        ("OUTBOXD_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("OUTBOXD_PORT_8080_TCP_ADDR", "10.0.0.1"),
    ]);
    assert_eq!(config, from_env(&[]));
}

#[test]
fn unknown_variables_name_the_nearest() {
    let check = |name, remedy: &str| {
        let given = Given {
            toml: Some(LEAST),
            env: &[(name, "x")],
            ..Given::default()
        };
        let expected = format!(
            "the configuration has 1 error\n  {name}: unknown variable\n    remedy: {remedy}"
        );
        assert_eq!(message(&given), expected);
    };
    check(
        "OUTBOXD_BATCH_MAX_EVENT",
        "did you mean OUTBOXD_BATCH_MAX_EVENTS?",
    );
    check("OUTBOXD_CONFG", "did you mean OUTBOXD_CONFIG?");
    check(
        "OUTBOXD_XYZZY",
        "unset it; docs/configuration.md lists the names",
    );
}

#[test]
fn every_key_has_a_variable_of_its_own() {
    let mut names = names();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}
