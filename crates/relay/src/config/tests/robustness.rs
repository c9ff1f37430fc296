//! No text panics, whatever it is.

use proptest::prelude::*;

use super::{Given, LEAST};
use crate::config::environment::names;
use crate::config::keys::{CONSUMER, GLOBAL, Key, PIPELINE, TABLE};
use crate::config::{Overrides, example};

/// Values of every kind, also out of range and out of place.
const VALUES: [&str; 22] = [
    "''",
    "'x'",
    "'20ms'",
    "'4MiB'",
    "'-1'",
    "'99999999999999999999d'",
    "'a,b'",
    "'[::1]:1'",
    "'postgres://a:b@c:d/e?f=g'",
    "'%'",
    "0",
    "-1",
    "9223372036854775807",
    "0xff",
    "1e300",
    "nan",
    "true",
    "1979-05-27T07:32:00Z",
    "[]",
    "[1, ['x']]",
    "{}",
    "{ env = 'A', file = 'B' }",
];

/// Every key on a line of its own section, with `{}` for its value.
fn lines() -> Vec<String> {
    fn of<T>(keys: &'static [Key<T>], header: &str) -> Vec<String> {
        keys.iter()
            .map(|key| format!("{header}{} = {{}}\n", key.path))
            .collect()
    }
    let pipeline = "[[pipelines]]\n";
    let table = format!("{pipeline}[[pipelines.tables]]\n");
    let consumer = format!("{pipeline}[[pipelines.consumers]]\n");
    [
        of(GLOBAL, ""),
        of(PIPELINE, pipeline),
        of(TABLE, &table),
        of(CONSUMER, &consumer),
    ]
    .concat()
}

#[test]
fn no_value_of_any_key_panics() {
    for line in lines() {
        for value in VALUES {
            let toml = line.replace("{}", value);
            let _ = Given {
                toml: Some(&toml),
                ..Given::default()
            }
            .load();
        }
    }
    for name in names() {
        for value in VALUES {
            let env: &[_] = &[(&*name, value.trim_matches('\''))];
            let _ = Given {
                env,
                ..Given::default()
            }
            .load();
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(toml in "\\PC{0,200}", value in "\\PC{0,40}") {
        let env: &[_] = &[("OUTBOXD_POSTGRES_URL", &*value), ("OUTBOXD_BATCH_MAX_WAIT", &*value)];
        let flags = Overrides { postgres: Some(value.clone()), ..Overrides::default() };
        let _ = Given { toml: Some(&toml), env, flags, ..Given::default() }.load();
    }

    #[test]
    fn no_url_panics(rest in "[a-z:/@%,?&=\\[\\]0-9ü ]{0,60}") {
        let url = format!("postgres://{rest}");
        let flags = Overrides { postgres: Some(url), ..Overrides::default() };
        let _ = Given { flags, ..Given::default() }.load();
    }

    #[test]
    fn no_damaged_example_panics(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}='\".\n#a-z0-9]{0,3}"), 1..6),
    ) {
        let mut text: Vec<char> = example().chars().collect();
        for (at, replacement) in cuts {
            let at = at.index(text.len());
            text.splice(at..at + 1, replacement.chars());
        }
        let text: String = text.into_iter().collect();
        let _ = Given { toml: Some(&text), ..Given::default() }.load();
    }
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
    let depth = 100_000;
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let toml = format!("x = {}1{}", open.repeat(depth), close.repeat(depth));
        assert!(
            Given {
                toml: Some(&toml),
                ..Given::default()
            }
            .load()
            .is_err()
        );
    }
    let toml = format!("{}x.a{} = 1", LEAST, ".a".repeat(depth));
    assert!(
        Given {
            toml: Some(&toml),
            ..Given::default()
        }
        .load()
        .is_err()
    );
}
