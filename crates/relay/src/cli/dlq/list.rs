//! `outboxd dlq list`.

use clap::Args;
use delivery::RecordKey;
use serde_json::{Value, json};

use envelope::dead_letter::Entry;

use super::choice::FilterArgs;
use super::show::printable;
use super::{Scope, survey};
use crate::cli::out::say;
use crate::cli::problem::Problem;
use crate::config::Pipeline;
use crate::dead_letters::{Letter, Resolution};

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub scope: Scope,
    #[command(flatten)]
    filter: FilterArgs,
    /// Those that were published or dropped, too.
    #[arg(long)]
    all: bool,
    /// So many at most, the oldest first.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
}

pub(super) fn run(args: &ListArgs, pipeline: &Pipeline) -> Result<(), Problem> {
    let filter = args.filter.filter(pipeline, &[])?;
    let survey = survey(pipeline, filter.service.as_deref())?;
    let (mut shown, mut found) = (Vec::new(), 0_usize);
    survey.each(|letter, entry, resolution| {
        let is_listed = args.all || resolution.is_none();
        if is_listed && filter.matches(entry, letter.key.as_deref(), &letter.place()) {
            found += 1;
            if shown.len() < args.limit {
                shown.push(summary(letter, entry, resolution));
            }
        }
    })?;
    if args.scope.json {
        say!("{}", json!({ "found": found, "letters": shown }));
        return Ok(());
    }
    for letter in &shown {
        say!("{}", line(letter));
    }
    match found - shown.len() {
        0 => say!("{found} dead letters"),
        more => say!("{found} dead letters; --limit has left {more} out"),
    }
    Ok(())
}

/// All but headers and payload.
pub(super) fn summary(
    letter: &Letter,
    entry: &Entry<'_>,
    resolution: Option<&Resolution>,
) -> Value {
    let key = RecordKey::of_letter(entry, letter.key.as_deref());
    let key = key.as_ref().map(RecordKey::shown).unwrap_or_default();
    json!({
        "place": letter.place(),
        "event_id": entry.row_id,
        "service": entry.service,
        "type": entry.header(envelope::TYPE_HEADER),
        "class": entry.class,
        "reason": entry.reason,
        "key": key.text,
        "key_hex": key.hex,
        "key_sha256": key.sha256,
        "table": entry.table,
        "topic": entry.topic,
        "position": entry.position,
        "attempts": entry.attempts,
        "first_failure": entry.first_failure,
        "last_failure": entry.last_failure,
        "stub": entry.is_stub,
        "request": (!entry.request.is_empty()).then_some(entry.request),
        "resolution": resolution.map(|r| json!({ "kind": r.kind, "request": r.request })),
    })
}

fn line(letter: &Value) -> String {
    let text = |name: &str| match letter[name].as_str() {
        None | Some("") => "-".to_owned(),
        Some(text) => printable(text),
    };
    let key = match (letter["key_hex"].as_str(), letter["key_sha256"].as_str()) {
        (Some(hex), _) => format!("--key-hex {hex}"),
        (None, Some(sha256)) => format!("--key-sha256 {sha256}"),
        (None, None) => text("key"),
    };
    let mut line = format!(
        "{}  {}  {}  {}  key {}  event {}",
        text("place"),
        text("last_failure"),
        text("type"),
        text("class"),
        key,
        text("event_id"),
    );
    if let Some(kind) = letter["resolution"]["kind"].as_str() {
        line.push_str("  ");
        line.push_str(kind);
    }
    line
}
