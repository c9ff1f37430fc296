//! Which dead letters a command is about.

use std::time::{Duration, SystemTime};

use clap::Args;
use delivery::{Class, Filter, RecordKey};
use envelope::dead_letter::UNMAPPABLE;
use envelope::rfc3339::{Rfc3339, parse};
use pgoutput::PgTimestamp;

use crate::cli::problem::Problem;
use crate::config::{Pipeline, parse_duration};

/// All that is given must hold.
#[derive(Args, Default)]
pub(super) struct FilterArgs {
    /// Of this service.
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// Of this event type.
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<String>,
    /// Of this class, such as topic-missing.
    #[arg(long, value_name = "CLASS", value_parser = class)]
    pub class: Option<String>,
    /// Of this record key.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Of this record key, which is no text: two hexadecimal digits for each byte.
    #[arg(long, value_name = "HEX", value_parser = RecordKey::from_hex, conflicts_with = "key")]
    pub key_hex: Option<RecordKey>,
    /// Of the record key of more than 1,024 bytes with this SHA-256, as list and stats show it.
    #[arg(long, value_name = "HEX", value_parser = RecordKey::from_sha256, conflicts_with_all = ["key", "key_hex"])]
    pub key_sha256: Option<RecordKey>,
    /// Dead since then or later.
    #[arg(long, value_name = "TIMESTAMP", value_parser = instant)]
    pub since: Option<String>,
    /// Dead since before.
    #[arg(long, value_name = "TIMESTAMP", value_parser = instant)]
    pub until: Option<String>,
    /// Dead for longer, such as 7d.
    #[arg(long, value_name = "AGE", value_parser = parse_duration, conflicts_with = "until")]
    pub older_than: Option<Duration>,
}

impl FilterArgs {
    /// As the relay reads it.
    pub fn filter(&self, pipeline: &Pipeline, ids: &[String]) -> Result<Filter, Problem> {
        require_service(pipeline, self.service.as_deref())?;
        let until = match self.older_than {
            Some(age) => Some(before(age)?),
            None => self.until.clone(),
        };
        Ok(Filter {
            service: self.service.clone(),
            event_type: self.event_type.clone(),
            class: self.class.clone(),
            key: self
                .key
                .as_ref()
                .map(RecordKey::from)
                .or_else(|| self.key_hex.clone())
                .or_else(|| self.key_sha256.clone()),
            since: self.since.clone(),
            until,
            ids: ids.to_vec(),
        })
    }
}

/// A name that is misspelt would just find nothing.
pub(super) fn require_service(pipeline: &Pipeline, service: Option<&str>) -> Result<(), Problem> {
    let mut known: Vec<_> = pipeline.tables.iter().map(|t| t.service.as_str()).collect();
    if service.is_none_or(|service| known.contains(&service)) {
        return Ok(());
    }
    known.sort_unstable();
    known.dedup();
    Err(Problem::new(
        format!(
            "pipeline {} has no service {:?}",
            pipeline.name,
            service.unwrap_or_default()
        ),
        format!("Name one of: {}.", known.join(", ")),
    ))
}

fn before(age: Duration) -> Result<String, Problem> {
    let too_long = || Problem::new("--older-than is too long", "Give an age such as 7d.");
    let at = SystemTime::now().checked_sub(age).ok_or_else(too_long)?;
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    let micros = since.map_err(|_| too_long())?.as_micros();
    let micros = i64::try_from(micros).map_err(|_| too_long())?;
    let text = Rfc3339::new(PgTimestamp::from_unix_micros(micros)).map_err(|_| too_long())?;
    Ok(text.as_str().to_owned())
}

/// A class that is misspelt would just find nothing, too.
fn class(text: &str) -> Result<String, String> {
    let mut known: Vec<_> = Class::NAMED.map(Class::name).into();
    let is_mapping = |code: &str| !code.is_empty();
    if known.iter().any(|name| name == text)
        || text.strip_prefix(UNMAPPABLE).is_some_and(is_mapping)
    {
        return Ok(text.to_owned());
    }
    known.push(format!("{UNMAPPABLE}CODE"));
    let known = known.join(", ");
    Err(format!("name one as `outboxd dlq stats` shows it: {known}"))
}

/// An instant in the form that dead letters have, so that texts can be compared.
fn instant(text: &str) -> Result<String, String> {
    let read = parse(text).and_then(Rfc3339::new);
    read.map(|instant| instant.as_str().to_owned())
        .map_err(|_| "a timestamp is written as 2026-01-31T10:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn instants_get_the_form_of_the_letters_headers() {
        for (given, expected) in [
            ("2026-01-31T10:00:00Z", "2026-01-31T10:00:00.000000Z"),
            ("2026-01-31T10:00:00.5Z", "2026-01-31T10:00:00.500000Z"),
            ("2026-01-31 10:00:00", "2026-01-31T10:00:00.000000Z"),
            ("2026-01-31T10:00:00+02:00", "2026-01-31T08:00:00.000000Z"),
        ] {
            assert_eq!(instant(given).unwrap(), expected);
        }
        for wrong in ["yesterday", "2026-01-31T", "infinity", ""] {
            assert!(instant(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_service_must_be_known() {
        let pipeline = Pipeline::default();
        let known = pipeline.tables[0].service.clone();
        assert!(require_service(&pipeline, None).is_ok());
        assert!(require_service(&pipeline, Some(&known)).is_ok());
        let problem = require_service(&pipeline, Some("nobody")).unwrap_err();
        assert!(problem.remedy.contains(&known), "{problem:?}");
    }

    #[test]
    fn a_class_is_named_as_letters_name_it() {
        for known in ["topic-missing", "parked", "mapping/topic-not-allowed"] {
            assert_eq!(class(known).unwrap(), known);
        }
        for wrong in ["topic-mising", "mapping", "mapping/", ""] {
            assert!(
                class(wrong).unwrap_err().contains("topic-missing"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_age_is_an_end() {
        let now = before(Duration::ZERO).unwrap();
        assert!(before(Duration::from_secs(60)).unwrap() < now);
        assert!(before(Duration::MAX).is_err());
    }
}
