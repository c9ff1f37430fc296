//! Messages name the place, the key, what is wrong and what to do.

use super::{Given, LEAST, check, message, messages};
use crate::config::Overrides;

/// As [`check`], for a table of a pipeline.
#[track_caller]
fn check_table(line: &str, path: &str, problem: &str, remedy: &str) {
    let expected =
        format!("  outboxd.toml:5: pipelines[0].tables[0].{path}: {problem}\n    remedy: {remedy}");
    assert_eq!(
        messages(&format!("[[pipelines.tables]]\n{line}")),
        expected,
        "{line}"
    );
}

#[test]
fn unknown_keys_name_the_nearest() {
    let check = |line, path, remedy| check(line, path, "unknown key", remedy);
    check(
        "batch.max_wiat = '5ms'",
        "batch.max_wiat",
        "did you mean max_wait?",
    );
    check(
        "batch.max_wait_ms = 5",
        "batch.max_wait_ms",
        "did you mean max_wait?",
    );
    check(
        "kafka.bootstrap_servers = ''",
        "kafka.bootstrap_servers",
        "did you mean bootstrap?",
    );
    check("tabels = 1", "tabels", "did you mean tables?");
    check(
        "event.size = 1",
        "event.size",
        "remove it; known here are max_bytes",
    );
    let check = |line, path, remedy| check_table(line, path, "unknown key", remedy);
    check(
        "columns.typ = 'x'",
        "columns.typ",
        "remove it; known here are id, event_type, transfer_id, payload, headers, occurred_at, seq, state, attempts, last_error",
    );
    check(
        "columns.event_typ = 'x'",
        "columns.event_typ",
        "did you mean event_type?",
    );
    check("topics = ['x']", "topics", "did you mean topic?");
}

#[test]
fn keys_in_the_wrong_section_name_the_right_one() {
    let check = |line, path, remedy| check(line, path, "unknown key", remedy);
    check(
        "max_wait = '5ms'",
        "max_wait",
        "did you mean pipelines.batch.max_wait?",
    );
    check(
        "kafka.acks = 'all'",
        "kafka.acks",
        "remove it; known here are bootstrap, checkpoint_topic, transactional_id_prefix, transaction_timeout, properties, topics",
    );
    check(
        "columns.id = 'x'",
        "columns",
        "did you mean pipelines.tables.columns?",
    );
    let top = |toml: &str| {
        message(&Given {
            toml: Some(toml),
            ..Given::default()
        })
    };
    let message = top("[postgres]\nurl = 'postgres://h/d'");
    assert!(
        message.contains(
            "outboxd.toml:1: postgres: unknown key\n    remedy: did you mean pipelines.postgres?"
        ),
        "{message}"
    );
    let message = top("[logs]\nlevel = 'info'");
    assert!(
        message.contains("logs: unknown key\n    remedy: did you mean log?"),
        "{message}"
    );
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    check(
        "concurrency = '4'",
        "concurrency",
        "expected a whole number without quotes, found a string",
        "write a whole number without quotes",
    );
    check(
        "name = 4",
        "name",
        "expected a string in quotes, found an integer",
        "write a string in quotes",
    );
    check(
        "batch.max_wait = 20",
        "batch.max_wait",
        "20 has no unit",
        "write \"20ms\" or \"20s\", in quotes",
    );
    check(
        "batch.max_wait = '20'",
        "batch.max_wait",
        "\"20\" has no unit",
        "write whole numbers with a unit (us, ms, s, m, h or d), such as \"20ms\"",
    );
    check(
        "batch.max_bytes = '4M'",
        "batch.max_bytes",
        "\"4M\" has an unknown unit",
        "write a whole number of bytes, or one with a unit (B, kB, MB, GB, KiB, MiB, GiB), such as \"4MiB\"",
    );
    check(
        "topics.allow = 'a.*'",
        "topics.allow",
        "expected a list of strings such as [\"a\", \"b\"], found a string",
        "write a list of strings such as [\"a\", \"b\"]",
    );
    check(
        "retry = 3",
        "retry",
        "unknown key",
        "write a section [pipelines.retry]",
    );
    check(
        "retry.multiplier = nan",
        "retry.multiplier",
        "NaN is out of range",
        "write 1 to 10",
    );
    check(
        "postgres.slot = 1979-05-27",
        "postgres.slot",
        "expected a string in quotes, found a date",
        "write a string in quotes",
    );
    check(
        "kafka.properties = 5",
        "kafka.properties",
        "expected a table, found an integer",
        "write a table",
    );
    check(
        "[pipelines.tables]\ntable = 'x'",
        "tables",
        "is not a list of tables",
        "write [[pipelines.tables]], with two brackets on each side",
    );
    check(
        "concurrency = 99999999999999999999999999999999999999999",
        "concurrency",
        "the integer is too large",
        "write a smaller one",
    );
}

#[test]
fn values_out_of_range_are_refused() {
    check(
        "concurrency = 0",
        "concurrency",
        "0 is out of range",
        "write 1 to 16",
    );
    check(
        "concurrency = -1",
        "concurrency",
        "-1 is out of range",
        "write 1 to 16",
    );
    check(
        "batch.max_bytes = 1",
        "batch.max_bytes",
        "1B is out of range",
        "write 1KiB to 64MiB",
    );
    check(
        "batch.max_wait = '1h'",
        "batch.max_wait",
        "1h is out of range",
        "write 0s to 10s",
    );
    check(
        "name = 'Main'",
        "name",
        "\"Main\" is not allowed",
        "write 1 to 40 of a-z, 0-9, _ and -",
    );
    check(
        "postgres.slot = 'a-b'",
        "postgres.slot",
        "\"a-b\" is not allowed",
        "write 1 to 63 of a-z, 0-9 and _",
    );
    check(
        "mode = 'exactly_once'",
        "mode",
        "unknown value \"exactly_once\"",
        "did you mean \"exactly-once\"? Known are exactly-once, at-least-once",
    );
    check(
        "sink = 'redis'",
        "sink",
        "unknown value \"redis\"",
        "use one of kafka, stdout",
    );
    check(
        "kafka.checkpoint_topic = '__mine'",
        "kafka.checkpoint_topic",
        "\"__mine\" is not allowed",
        "write a topic name; {name} is the pipeline's",
    );
    check(
        "topics.allow = ['a b']",
        "topics.allow",
        "topic pattern \"a b\" can match no topic: use the characters a-z A-Z 0-9 . _ - and * for any run of them",
        "write topic names with * for any characters, such as \"transfers.*\"",
    );
    check(
        "topics.allow = []",
        "topics.allow",
        "allows no topic",
        "list patterns, or [\"*\"] to allow every topic",
    );
    check_table(
        "table = ''",
        "table",
        "is empty",
        "write an identifier of 1 to 63 bytes",
    );
    check_table(
        "topic = 'a.{type'",
        "topic",
        "the { at character 3 opens a placeholder that is never closed: add } after its name, or write {{ for the brace itself",
        "write a topic name with placeholders, such as \"{type}\" or \"outbox.{type.domain}\"",
    );
    check_table(
        "header_columns.eventId = 'x'",
        "header_columns",
        "the relay sets the header \"eventId\" itself",
        "name another",
    );
}

#[test]
fn all_errors_are_shown_together_in_the_order_of_the_file() {
    let toml = "[[pipelines]]\n\
                sink = 'redis'\n\
                batch.max_wait = 20\n\
                [log]\n\
                levle = 'info'\n";
    let given = Given {
        toml: Some(toml),
        env: &[("OUTBOXD_MOED", "x")],
        ..Given::default()
    };
    let expected = "the configuration has 6 errors
  outboxd.toml:2: pipelines[0].sink: unknown value \"redis\"
    remedy: use one of kafka, stdout
  outboxd.toml:3: pipelines[0].batch.max_wait: 20 has no unit
    remedy: write \"20ms\" or \"20s\", in quotes
  outboxd.toml:5: log.levle: unknown key
    remedy: did you mean level?
  OUTBOXD_MOED: unknown variable
    remedy: did you mean OUTBOXD_MODE?
";
    let message = message(&given);
    assert!(message.starts_with(expected), "{message}");
    assert!(
        message.contains("pipelines[0].postgres.url: no database is given"),
        "{message}"
    );
    assert!(
        message.contains("pipelines[0].kafka.bootstrap: no broker is given"),
        "{message}"
    );
}

#[test]
fn every_syntax_error_has_its_line() {
    let toml = "[log]\nlevel = \nevents = tru\n";
    let message = message(&Given {
        toml: Some(toml),
        ..Given::default()
    });
    assert!(
        message.contains("outboxd.toml:2: is not TOML: "),
        "{message}"
    );
    assert!(
        message.contains("outboxd.toml:3: is not TOML: "),
        "{message}"
    );
    assert!(
        !message.contains("is given"),
        "what is in the file is not missing: {message}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_who_named_it() {
    let flags = Overrides {
        config: Some("absent.toml".into()),
        ..Overrides::default()
    };
    let message = message(&Given {
        flags,
        ..Given::default()
    });
    assert!(
        message.contains("--config: cannot read absent.toml: "),
        "{message}"
    );
    let env: &[_] = &[("OUTBOXD_CONFIG", "absent.toml")];
    let message = super::message(&Given {
        env,
        ..Given::default()
    });
    assert!(
        message.contains("OUTBOXD_CONFIG: cannot read absent.toml: "),
        "{message}"
    );
}

#[test]
fn without_any_source_the_message_says_what_to_give() {
    let message = message(&Given::default());
    let expected = "the configuration has 2 errors
  pipelines[0].postgres.url: no database is given
    remedy: give --postgres postgres://user@host:5432/database, OUTBOXD_POSTGRES_URL, or postgres.url in the file
  pipelines[0].kafka.bootstrap: no broker is given
    remedy: give --kafka HOST:PORT, OUTBOXD_KAFKA_BOOTSTRAP, or kafka.bootstrap in the file; or set sink to stdout to try without Kafka";
    assert_eq!(message, expected);
}

#[test]
fn a_wrong_variable_is_reported_once_for_all_pipelines() {
    let toml = format!(
        "{LEAST}[[pipelines]]\nname = 'b'\nkafka.bootstrap = 'k:1'\npostgres.url = 'postgres://other/app'\n"
    );
    let env: &[_] = &[("OUTBOXD_CONCURRENCY", "many"), ("BATCH_SIZE", "1k")];
    let message = message(&Given {
        toml: Some(&toml),
        env,
        ..Given::default()
    });
    let expected = "the configuration has 2 errors
  BATCH_SIZE: batch.max_events: \"1k\" is not a whole number
    remedy: write digits
  OUTBOXD_CONCURRENCY: concurrency: \"many\" is not a whole number
    remedy: write a whole number";
    assert_eq!(message, expected);
}
