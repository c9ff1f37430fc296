//! `outboxd trace`: the whole life of one event.

use std::fmt::Write as _;

use clap::Args;

use super::audit::request_shown;
use super::problem::Problem;
use super::progress::Progress;
use super::repair::timestamp;
use super::{Exit, Settings, one_pipeline};
use crate::cli::out::{self, say};
use crate::config::{Pipeline, Postgres, database_by_url};
use crate::failure::Failure;
use crate::trace::{
    self, ConsumerStory, Covering, LetterStory, Payloads, RecordStory, RowStory, Step, Story, Ways,
};

#[derive(Args)]
pub(super) struct TraceArgs {
    #[command(flatten)]
    settings: Settings,
    /// The event's id.
    #[arg(value_name = "EVENT_ID")]
    id: String,
    /// The pipeline, where there are several.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Database of a consumer, whose inbox is looked into; may be repeated. Better give the password in
    /// PGPASSWORD.
    #[arg(long, value_name = "URL")]
    consumer_db: Vec<String>,
    /// Look into this topic; may be repeated. By default the one that the row names, else all that
    /// routing may use.
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// Look at records of this time or later. By default the row tells when to look; without a row
    /// those of the last 24 hours.
    #[arg(long, value_name = "TIMESTAMP", value_parser = timestamp)]
    since: Option<String>,
    /// Look at so many records at most.
    #[arg(long, value_name = "COUNT", default_value_t = 5_000_000)]
    max_records: u64,
    /// Show payloads, too.
    #[arg(long)]
    payload: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

pub(super) fn trace(args: &TraceArgs) -> Result<(), Exit> {
    let config = args.settings.load()?;
    let pipeline = one_pipeline(&config, args.pipeline.as_deref())?;
    let consumers = consumers(&args.consumer_db).map_err(|problem| {
        problem.report();
        Exit::Usage
    })?;
    let story = super::block_on(run(args, consumers, pipeline))?;
    let story = story.map_err(|failure| {
        Problem::from(failure).report();
        Exit::CouldNotLook
    })?;
    match args.json {
        true => say!("{}", serde_json::json!(story)),
        false => out::write(format_args!("{}", shown(&story))),
    }
    match story.is_known() {
        true => Ok(()),
        false => Err(Exit::Failure),
    }
}

fn consumers(urls: &[String]) -> Result<Vec<Postgres>, Problem> {
    let password = std::env::var("PGPASSWORD").ok();
    let read = |url: &String| {
        database_by_url(url, password.clone()).map_err(|wrong| {
            let remedy = "Write it as postgres://user@host:5432/database.";
            Problem::new(format!("--consumer-db {wrong}"), remedy)
        })
    };
    urls.iter().map(read).collect()
}

async fn run(
    args: &TraceArgs,
    consumers: Vec<Postgres>,
    pipeline: &Pipeline,
) -> Result<Story, Failure> {
    let ways = Ways {
        event_id: args.id.clone(),
        topics: args.topic.clone(),
        since: args.since.clone(),
        max_records: args.max_records,
        payloads: match args.payload {
            true => Payloads::Shown,
            false => Payloads::Hidden,
        },
        consumers,
    };
    let progress = Progress::start("tables");
    trace::run(pipeline, &ways, |step| match step {
        Step::Rows => progress.say("tables"),
        Step::Records(records) => progress.say(format!("topics: {records} records")),
        Step::DeadLetters => progress.say("dead letters"),
        Step::Consumers => progress.say("consumers"),
    })
    .await
}

/// For people: what is known, and what is not.
fn shown(story: &Story) -> String {
    let mut text = format!("event {}\n", story.event_id.escape_debug());
    if story.rows.is_empty() {
        text.push_str("row         no table has it\n");
    }
    story.rows.iter().for_each(|row| row_shown(row, &mut text));
    if story.records.is_empty() {
        let _ = writeln!(
            text,
            "record      none found in {} records",
            story.read.records
        );
    }
    for record in &story.records {
        record_shown(record, &mut text);
    }
    if story.dead_letters.is_empty() {
        text.push_str("dead letter none\n");
    }
    for letter in &story.dead_letters {
        letter_shown(letter, &mut text);
    }
    match &story.covering {
        Some(covering) => covering_shown(covering, &mut text),
        None => text.push_str("checkpoint  none known that has it\n"),
    }
    if story.requests.is_empty() {
        text.push_str("request     none that names it or is named by its records\n");
    }
    for request in &story.requests {
        text.push_str(&request_shown(request));
    }
    if story.consumers.is_empty() {
        text.push_str("consumer    not looked for: give --consumer-db\n");
    }
    for consumer in &story.consumers {
        consumer_shown(consumer, &mut text);
    }
    for note in &story.notes {
        let _ = writeln!(text, "note        {note}");
    }
    text
}

/// Fields that are there, one behind the other.
fn fields(fields: &[(&str, Option<String>)]) -> String {
    let known = fields.iter().filter_map(|(name, value)| {
        let value = value.as_deref()?;
        Some(format!("{name} {}", value.escape_debug()))
    });
    known.collect::<Vec<_>>().join(", ")
}

fn row_shown(row: &RowStory, text: &mut String) {
    let told = fields(&[
        ("type", row.event_type.clone()),
        ("transfer id", row.transfer_id.clone()),
        ("of", row.occurred_at.clone()),
        ("state", row.state.clone()),
        ("attempts", row.attempts.clone()),
        ("last error", row.last_error.clone()),
        ("goes to", row.topic.clone()),
        ("can't become an event", row.unmappable.clone()),
        ("payload", row.payload.clone()),
    ]);
    let _ = writeln!(text, "row         {}: {told}", row.table);
}

fn record_shown(record: &RecordStory, text: &mut String) {
    let told = fields(&[
        ("at", Some(record.at.clone())),
        ("position", Some(record.position.clone())),
        ("commit LSN", record.commit_lsn.clone()),
        ("row of a feed", record.feed_row.map(|row| row.to_string())),
        ("by request", record.replay.clone()),
        ("key", record.key.clone()),
        ("bytes", record.value_bytes.map(|bytes| bytes.to_string())),
        ("value", record.value.clone()),
    ]);
    let _ = writeln!(text, "record      {}: {told}", record.place);
}

fn letter_shown(letter: &LetterStory, text: &mut String) {
    let outcome = letter.resolution.as_ref();
    let outcome = outcome.map_or("open".to_owned(), |resolution| {
        format!("{} by request {}", resolution.kind, resolution.request)
    });
    let told = fields(&[
        ("class", Some(letter.class.clone())),
        ("attempts", Some(letter.attempts.to_string())),
        ("first failure", Some(letter.first_failure.clone())),
        ("last failure", Some(letter.last_failure.clone())),
        ("position", Some(letter.position.clone())),
        ("for", Some(letter.topic.clone())),
        ("again by request", letter.request.clone()),
        ("reason", Some(letter.reason.clone())),
        ("value", letter.value.clone()),
    ]);
    let stub = match letter.is_stub {
        true => " (a description: the event is too large)",
        false => "",
    };
    let _ = writeln!(
        text,
        "dead letter {}{stub}: {outcome}, {told}",
        letter.place
    );
}

fn covering_shown(covering: &Covering, text: &mut String) {
    let whose = match covering.is_own_transaction {
        true => "its own transaction",
        false => "a later transaction",
    };
    let told = fields(&[
        ("up to", covering.up_to.clone()),
        ("xid", covering.xid.map(|xid| xid.to_string())),
        (
            "committed at",
            covering
                .commit_time_us
                .map(|us| trace::time(us.div_euclid(1000))),
        ),
        ("timeline", Some(covering.timeline.to_string())),
        ("transactions of", covering.transactional_id_prefix.clone()),
        ("relay", Some(covering.relay_version.clone())),
        ("slot confirmed to", covering.slot_confirmed.clone()),
    ]);
    let _ = writeln!(
        text,
        "checkpoint  the oldest left ends with {whose}: {told}"
    );
}

fn consumer_shown(consumer: &ConsumerStory, text: &mut String) {
    let database = &consumer.database;
    if let Some(failure) = &consumer.failure {
        let _ = writeln!(text, "consumer    {database}: not known: {failure}");
        return;
    }
    if consumer.handled.is_empty() {
        let _ = writeln!(text, "consumer    {database}: no inbox has it");
    }
    for handled in &consumer.handled {
        let told = fields(&[
            ("handled at", handled.at.clone()),
            ("stored offset is beyond", handled.place.clone()),
        ]);
        let name = handled.consumer.escape_debug();
        let _ = writeln!(text, "consumer    {database}: {name}: {told}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_not_found_is_said() {
        let story = Story {
            event_id: "e1".into(),
            ..Story::default()
        };
        assert_eq!(
            shown(&story),
            "event e1\n\
             row         no table has it\n\
             record      none found in 0 records\n\
             dead letter none\n\
             checkpoint  none known that has it\n\
             request     none that names it or is named by its records\n\
             consumer    not looked for: give --consumer-db\n"
        );
        assert!(!story.is_known());
    }

    #[test]
    fn what_is_known_is_told_without_line_breaks_of_others() {
        let story = Story {
            event_id: "e1".into(),
            rows: vec![RowStory {
                table: "public.outbox".into(),
                state: Some("FAILED".into()),
                last_error: Some("a\nb".into()),
                ..RowStory::default()
            }],
            ..Story::default()
        };
        let text = shown(&story);
        let row = "row         public.outbox: state FAILED, last error a\\nb\n";
        assert!(text.contains(row), "{text}");
        assert!(story.is_known());
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        let wrong = ["postgres://user:secret@host".to_owned()];
        let problem = consumers(&wrong).unwrap_err();
        assert!(problem.message.contains("--consumer-db"), "{problem:?}");
        assert!(!problem.message.contains("secret"), "{problem:?}");
        assert!(consumers(&["postgres://u@h/d".to_owned()]).is_ok());
    }
}
