//! `outboxd dlq stats`.

use std::collections::BTreeMap;

use clap::Args;
use delivery::RecordKey;
use serde_json::json;

use super::{Scope, survey};
use crate::cli::out::say;
use crate::cli::problem::Problem;
use crate::config::Pipeline;
use crate::sink::read_latest;

/// Parked keys that are printed by name.
const KEYS_SHOWN: usize = 20;

#[derive(Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    pub scope: Scope,
}

/// Open letters of a service and class.
#[derive(Default)]
struct Open {
    letters: u64,
    oldest: String,
    newest: String,
}

impl Open {
    fn add(&mut self, at: &str) {
        self.letters += 1;
        if self.oldest.is_empty() || at < self.oldest.as_str() {
            at.clone_into(&mut self.oldest);
        }
        if at > self.newest.as_str() {
            at.clone_into(&mut self.newest);
        }
    }
}

pub(super) async fn run(args: &StatsArgs, pipeline: &Pipeline) -> Result<(), Problem> {
    let parked = read_latest(pipeline).await?.exceptions.parked;
    let survey = survey(pipeline, None)?;
    let mut open: BTreeMap<(String, String), Open> = BTreeMap::new();
    survey.each(|_, entry, resolution| {
        if resolution.is_none() {
            let group = (entry.service.to_owned(), entry.class.to_owned());
            open.entry(group).or_default().add(entry.last_failure);
        }
    })?;
    let mut resolved: BTreeMap<&str, u64> = BTreeMap::new();
    for resolution in survey.resolutions() {
        *resolved.entry(&resolution.kind).or_default() += 1;
    }
    let keys = parked.into_iter();
    let keys: Vec<_> = keys.map(|parked| (parked.service, parked.key)).collect();
    match args.scope.json {
        true => say!("{}", document(&open, &resolved, &keys)),
        false => print(&open, &resolved, &keys),
    }
    Ok(())
}

fn document(
    open: &BTreeMap<(String, String), Open>,
    resolved: &BTreeMap<&str, u64>,
    keys: &[(String, RecordKey)],
) -> serde_json::Value {
    let group = |((service, class), open): (&(String, String), &Open)| {
        json!({ "service": service, "class": class, "letters": open.letters,
                "oldest": open.oldest, "newest": open.newest })
    };
    let key = |(service, key): &(String, RecordKey)| {
        let key = key.shown();
        json!({ "service": service, "key": key.text, "key_hex": key.hex, "key_sha256": key.sha256 })
    };
    json!({
        "open": open.iter().map(group).collect::<Vec<_>>(),
        "resolved": resolved,
        "parked_keys": keys.iter().map(key).collect::<Vec<_>>(),
    })
}

fn print(
    open: &BTreeMap<(String, String), Open>,
    resolved: &BTreeMap<&str, u64>,
    keys: &[(String, RecordKey)],
) {
    for ((service, class), open) in open {
        let Open {
            letters,
            oldest,
            newest,
        } = open;
        say!("{service}  {class}: {letters} open, of {oldest} to {newest}");
    }
    if open.is_empty() {
        say!("no dead letter is open");
    }
    for (kind, letters) in resolved {
        say!("{letters} {kind}");
    }
    say!("{} parked keys", keys.len());
    for (service, key) in keys.iter().take(KEYS_SHOWN) {
        say!("  {service}  {key}");
    }
    if keys.len() > KEYS_SHOWN {
        say!("  and {} more: --json names all", keys.len() - KEYS_SHOWN);
    }
}
