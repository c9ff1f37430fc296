//! `outboxd dlq show`.

use clap::Args;
use delivery::Filter;
use serde_json::{Value, json};

use super::list::summary;
use super::{Scope, survey};
use crate::cli::out::say;
use crate::cli::problem::Problem;
use crate::config::Pipeline;

#[derive(Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    pub scope: Scope,
    /// The letter at topic/partition:offset, or all of the event with this id.
    #[arg(value_name = "PLACE|EVENT_ID")]
    id: String,
    /// Show the payload, too.
    #[arg(long)]
    payload: bool,
}

pub(super) fn run(args: &ShowArgs, pipeline: &Pipeline) -> Result<(), Problem> {
    let filter = Filter {
        ids: vec![args.id.clone()],
        ..Filter::default()
    };
    let mut letters = Vec::new();
    survey(pipeline, None)?.each(|letter, entry, resolution| {
        if !filter.matches(entry, letter.key.as_deref(), &letter.place()) {
            return;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let header = |(name, value): &(&str, Option<&[u8]>)| json!([name, value.map(text)]);
        let mut shown = summary(letter, entry, resolution);
        shown["headers"] = entry.headers.iter().map(header).collect();
        if args.payload {
            shown["payload"] = json!(letter.value.as_deref().map(text));
        }
        letters.push(shown);
    })?;
    if letters.is_empty() {
        return Err(no_such(&[args.id.as_str()]));
    }
    if args.scope.json {
        say!("{}", json!({ "letters": letters }));
        return Ok(());
    }
    for letter in &letters {
        print(letter);
    }
    Ok(())
}

/// Nothing is known of these places and event ids.
pub(super) fn no_such(ids: &[&str]) -> Problem {
    Problem::new(
        format!("there is no open dead letter {}", ids.join(", ")),
        "Name it by topic/partition:offset or by its event's id, as `outboxd dlq list --all` does, \
         which also shows those that were published or dropped.",
    )
}

fn print(letter: &Value) {
    let Value::Object(fields) = letter else {
        return;
    };
    for (name, value) in fields {
        match value {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => say!("{name:<14} {}", printable(text)),
            Value::Array(headers) => headers.iter().for_each(print_header),
            Value::Object(resolution) => {
                let text = |name: &str| resolution.get(name).and_then(Value::as_str);
                let (kind, request) = (text("kind"), text("request"));
                let (kind, request) = (kind.unwrap_or_default(), request.unwrap_or_default());
                say!("{name:<14} {kind} by request {request}");
            }
            Value::Bool(_) | Value::Number(_) => say!("{name:<14} {value}"),
        }
    }
    say!("");
}

fn print_header(header: &Value) {
    let name = printable(header[0].as_str().unwrap_or_default());
    match header[1].as_str() {
        Some(value) => say!("header         {name}: {}", printable(value)),
        None => say!("header         {name}"),
    }
}

/// The text as it is, so that it can be copied, but what would move the terminal's cursor.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_debug()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_can_be_copied_and_does_nothing_to_a_terminal() {
        let json = r#"{"name": "Zoë's \"café\"", "path": "C:\\x"}"#;
        assert_eq!(printable(json), json);
        assert_eq!(printable("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
    }
}
