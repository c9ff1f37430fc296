//! Small text forms: LSN, position, topic template, topic pattern, Postgres's timestamps. Any text
//! is read or refused, and what is read is shown so that it reads back as the same.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use envelope::rfc3339::{Rfc3339, parse_postgres};
use envelope::{TopicPattern, TopicTemplate};
use pgoutput::{CommitLsn, Lsn, Position};

/// The first byte chooses the form, the rest is the text.
pub fn check(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let Ok(text) = str::from_utf8(rest) else {
        return;
    };
    match choice % 6 {
        0 => reads_back::<Lsn>(text),
        1 => reads_back::<Position>(text),
        2 => reads_back::<CommitLsn>(text),
        3 => reads_back::<TopicTemplate>(text),
        4 => pattern(text),
        _ => timestamp(text),
    }
}

fn reads_back<T>(text: &str)
where
    T: FromStr<Err: Display> + Display + Debug + PartialEq,
{
    match text.parse::<T>() {
        Ok(value) => {
            let shown = value.to_string();
            match shown.parse::<T>() {
                Ok(again) => assert_eq!(again, value, "{shown:?}"),
                Err(error) => panic!("{value:?} is shown as {shown:?}: {error}"),
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A pattern and a topic, separated by a line end.
fn pattern(text: &str) {
    let (pattern, topic) = text.split_once('\n').unwrap_or((text, text));
    reads_back::<TopicPattern>(pattern);
    // The other way to match takes time that grows with the power of its stars.
    let stars = pattern.bytes().filter(|byte| *byte == b'*').count();
    if let Ok(parsed) = pattern.parse::<TopicPattern>()
        && stars <= 4
        && topic.len() <= 40
    {
        let expected = matches(pattern.as_bytes(), topic.as_bytes());
        assert_eq!(parsed.matches(topic), expected, "{pattern} on {topic:?}");
    }
}

/// What matching means, by trying every run for every star.
fn matches(pattern: &[u8], topic: &[u8]) -> bool {
    match pattern.split_first() {
        None => topic.is_empty(),
        Some((b'*', rest)) => (0..=topic.len()).any(|at| matches(rest, &topic[at..])),
        Some((byte, rest)) => topic
            .split_first()
            .is_some_and(|(first, topic)| first == byte && matches(rest, topic)),
    }
}

fn timestamp(text: &str) {
    match parse_postgres(text) {
        Ok(instant) => match Rfc3339::new(instant) {
            Ok(shown) => {
                let postgres = shown.as_str().replace('T', " ").replace('Z', "+00");
                assert_eq!(parse_postgres(&postgres), Ok(instant), "{text:?}");
            }
            Err(error) => panic!("{text:?} is read but can't be shown: {error}"),
        },
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
