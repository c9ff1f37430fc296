//! The state machine, driven by hand: events that are encrypted in their rows and published in the clear.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;

use std::sync::Arc;

use bench::control::entry;
use bench::{Bench, DEAD_LETTERS, GOOD, dead, parking, with};
use delivery::{Answer, Class, Halt, OnDeadLetter, Opened, Opener, Resume};
use envelope::Record;

/// Decrypts `sealed:TEXT` to `TEXT` without any `y`, unless it begins with `strange`.
#[derive(Debug)]
struct Seal;

impl Opener for Seal {
    fn open(&self, record: &Record<'_>) -> Option<Result<Opened, String>> {
        let value = std::str::from_utf8(record.value?).unwrap();
        let (before, sealed) = value.split_once("sealed:")?;
        Some(match sealed.starts_with("strange") {
            true => Err("there is no such key".into()),
            false => Ok(Opened {
                value: format!("{before}{}", sealed.replace('y', "")),
                without: &["position"],
            }),
        })
    }
}

fn bench_with(settings: delivery::Settings) -> Bench {
    let mut bench = Bench::new(settings, &Resume::default());
    bench.delivery.handle_keys(Arc::new(Seal));
    bench
}

fn published(bench: &Bench) -> Vec<&str> {
    let values = bench.values.iter();
    let values = values.map(|value| value.split_once(r#""payload":"#).unwrap().1);
    values.map(|value| value.trim_end_matches('}')).collect()
}

#[test]
fn events_are_published_in_the_clear_and_others_as_they_are() {
    let mut bench = bench_with(bench::settings());
    bench.begin(10).unwrap();
    bench.insert_payload(r#""sealed:one""#).unwrap();
    bench.insert_payload(r#""two""#).unwrap();
    bench.commit(10);
    bench.idle();
    assert_eq!(bench.fates(), [GOOD, GOOD]);
    assert_eq!(published(&bench), [r#""one""#, r#""two""#]);
    let positions = bench.headers.iter().map(|h| h.contains(&"position".into()));
    assert_eq!(positions.collect::<Vec<_>>(), [false, true]);
}

#[test]
fn what_cannot_be_decrypted_is_dead_as_it_was_and_the_rest_goes_on() {
    let mut bench = bench_with(bench::settings());
    bench.begin(10).unwrap();
    bench.insert_payload(r#""sealed:one""#).unwrap();
    bench.insert_payload(r#""sealed:strange""#).unwrap();
    bench.insert_payload(r#""sealed:three""#).unwrap();
    bench.commit(10);
    bench.idle();
    assert_eq!(bench.fates(), [GOOD, dead("encryption"), GOOD]);
    assert_eq!(
        published(&bench),
        [r#""one""#, r#""sealed:strange""#, r#""three""#]
    );
    assert_eq!(bench.sizes(), [3], "in one window");
}

#[test]
fn what_is_dead_for_another_reason_is_encrypted_as_it_was() {
    let mut bench = bench_with(bench::settings());
    bench.unusable = vec![("transfers.gone".into(), Answer::Missing)];
    bench.begin(10).unwrap();
    bench
        .insert_row("transfers.gone", "t1", r#""sealed:one""#)
        .unwrap();
    bench.commit(10);
    bench.wait();
    assert_eq!(bench.fates(), [dead("topic-missing")]);
    assert_eq!(published(&bench), [r#""sealed:one""#]);
    let own = &bench.headers[0];
    assert!(own.contains(&"position".into()), "{own:?}");
}

#[test]
fn a_parked_event_is_encrypted_as_it_was() {
    let mut bench = bench_with(parking());
    bench.begin(10).unwrap();
    bench.insert_payload(r#""sealed:strange""#).unwrap();
    bench.insert_payload(r#""sealed:two""#).unwrap();
    bench.commit(10);
    bench.wait();
    assert_eq!(bench.fates(), [dead("encryption"), dead("parked")]);
    assert_eq!(
        published(&bench),
        [r#""sealed:strange""#, r#""sealed:two""#]
    );
}

#[test]
fn the_size_of_an_event_is_that_of_what_is_published() {
    let mut bench = bench_with(with(|s| s.event_max_bytes = 500));
    let padding = "y".repeat(600);
    bench.begin(10).unwrap();
    bench
        .insert_payload(&format!(r#""sealed:padded {padding}""#))
        .unwrap();
    bench.insert_payload(&format!(r#""{padding}""#)).unwrap();
    bench.commit(10);
    bench.idle();
    assert_eq!(bench.fates(), [GOOD, dead("too-large")]);
    assert_eq!(published(&bench)[0], r#""padded ""#);
}

#[test]
fn where_nothing_may_die_the_stream_stops_before_it() {
    let mut bench = bench_with(with(|s| s.tables[0].on_dead_letter = OnDeadLetter::Halt));
    bench.begin(10).unwrap();
    let refused = bench.insert_payload(r#""sealed:strange""#).unwrap_err();
    assert_eq!(refused.code(), "undecryptable-event");
    let Halt::Refused { verdict, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(verdict.class, Class::Encryption);
    assert_eq!(verdict.reason, "there is no such key");
}

#[test]
fn a_dead_letter_that_is_published_again_is_decrypted_too() {
    let mut bench = bench_with(bench::settings());
    bench.control_relation();
    bench.begin(10).unwrap();
    bench.control(r#"{"command":"dlq-replay","filter":{}}"#);
    bench.wait();
    let value = r#"{"payload":"sealed:one"}"#;
    bench.redeliver_value(entry("transfers.settled"), 3, value);
    bench.delivery.handle_served(bench.now);
    bench.commit(10);
    bench.wait();
    assert_eq!(bench.fates(), [GOOD, (DEAD_LETTERS, "")], "and resolved");
    assert_eq!(bench.values[0], r#"{"payload":"one"}"#);
}
