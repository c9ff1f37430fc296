//! `outboxd audit`: what does not agree between tables and topics.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;

use super::cluster::Cluster;
use super::problem::Problem;
use super::progress::Progress;
use super::repair::timestamp;
use super::{Exit, Settings, one_pipeline};
use crate::audit::{self, Finding, Keeping, Publishers, Report, Step, Ways};
use crate::cli::out::{self, say};
use crate::config::{Pipeline, SinkKind, parse_duration};
use crate::failure::Failure;
use crate::requests::Request;

#[derive(Args)]
pub(super) struct AuditArgs {
    #[command(flatten)]
    settings: Settings,
    /// The pipeline, where there are several.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Look at events since then.
    #[arg(long, value_name = "TIMESTAMP", value_parser = timestamp)]
    since: String,
    /// Look at events before that. By default up to now.
    #[arg(long, value_name = "TIMESTAMP", value_parser = timestamp)]
    until: Option<String>,
    /// Rows may have been removed at this age, such as 7d, though no retention.period is configured:
    /// `outboxd prune --older-than` was run, say.
    #[arg(long, value_name = "AGE", value_parser = parse_duration)]
    pruned_after: Option<Duration>,
    /// Others publish to the topics as well: events without a row are counted, and are no findings.
    #[arg(long)]
    others_publish: bool,
    /// How long the relay may take to come past what is committed now, such as 30s or 5m. What it has not come
    /// to counts as waiting.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
    timeout: Duration,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

pub(super) fn audit(args: &AuditArgs) -> Result<(), Exit> {
    let config = args.settings.load()?;
    let pipeline = one_pipeline(&config, args.pipeline.as_deref())?;
    let report = super::block_on(run(args, pipeline))?;
    let report = report.map_err(|problem| {
        problem.report();
        Exit::CouldNotLook
    })?;
    match args.json {
        true => say!("{}", serde_json::json!(report)),
        false => out::write(format_args!("{}", shown(&report))),
    }
    match report.found.total() {
        0 => Ok(()),
        _ => Err(Exit::Failure),
    }
}

async fn run(args: &AuditArgs, pipeline: &Pipeline) -> Result<Report, Problem> {
    if pipeline.sink == SinkKind::Stdout {
        return Err(Problem::new(
            "a pipeline to standard output has no topics to compare with",
            "Audit one whose sink is kafka.",
        ));
    }
    let progress = Progress::start("reading the topics' settings");
    let (keeping, unread) = keeping(pipeline).await?;
    let ways = Ways {
        since: args.since.clone(),
        until: args.until.clone(),
        pruned_after: args.pruned_after,
        publishers: match args.others_publish {
            true => Publishers::Others,
            false => Publishers::Ours,
        },
        keeping,
        patience: args.timeout,
    };
    let mut report = audit::run(pipeline, &ways, |step| show(&progress, step)).await?;
    drop(progress);
    if !unread.is_empty() {
        report.notes.push(format!(
            "what these topics keep can't be read, for want of DESCRIBE_CONFIGS; they are taken to \
             keep everything: {}",
            unread.join(", ")
        ));
    }
    Ok(report)
}

/// What the topics keep, and those of which that can't be read.
async fn keeping(pipeline: &Pipeline) -> Result<(HashMap<String, Keeping>, Vec<String>), Failure> {
    let cluster = Cluster::connect(pipeline).await?;
    let dead = pipeline.dead_letter_topics(None);
    let topics = cluster.topics.keys().map(String::as_str);
    let ours = topics.filter(|t| dead.contains(t) || pipeline.topics.check(t).is_ok());
    let ours: Vec<&str> = ours.collect();
    let settings = cluster.settings(&ours).await?;
    let unread = ours
        .into_iter()
        .filter(|topic| !settings.contains_key(*topic));
    let unread = unread.map(str::to_owned).collect();
    let read = settings.iter();
    let keeping = read.map(|(topic, settings)| (topic.clone(), Keeping::of(settings)));
    Ok((keeping.collect(), unread))
}

fn show(progress: &Progress, step: Step<'_>) {
    match step {
        Step::Rows(table, rows) => progress.say(format!("{table}: {rows} rows")),
        Step::Waiting => progress.say("waiting for the relay to come past these rows"),
        Step::Records(records) => progress.say(format!("topics: {records} records")),
        Step::DeadLetters => progress.say("dead letters"),
        Step::Compared(done, of) => progress.at(done, of, "compared"),
    }
}

/// For people.
fn shown(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "Events of pipeline {} from {} to {}.",
        report.pipeline, report.since, report.until
    );
    for table in &report.tables {
        let _ = writeln!(text, "{}: {} rows", table.table, table.rows);
    }
    let records = &report.records;
    let _ = writeln!(
        text,
        "topics: {} events and {} dead letters, {} other records",
        records.events, records.dead_letters, records.foreign
    );
    let passed = &report.passed_over;
    for (count, what) in [
        (passed.replayed, "published again on request"),
        (passed.waiting, "the relay may not have come to them yet"),
        (passed.expired, "in no topic, and older than it keeps"),
        (passed.pruned, "events without a row, removed by retention"),
        (passed.of_others, "events without a row, of others"),
    ] {
        if count > 0 {
            let _ = writeln!(text, "no finding: {count} {what}");
        }
    }
    for request in &report.requests {
        text.push_str(&request_shown(request));
    }
    if report.found.without_row > 0 {
        text.push_str("note: where others publish to these topics, give --others-publish\n");
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for finding in &report.findings {
        finding_shown(finding, &mut text);
    }
    let found = &report.found;
    let named = report.findings.len() as u64;
    let left_out = found.total() - named;
    if left_out > 0 {
        let _ = writeln!(text, "{left_out} more findings are not named");
    }
    let _ = match found.total() {
        0 => writeln!(text, "nothing found: tables and topics agree"),
        _ => writeln!(
            text,
            "{} missing, {} doubled, {} altered, {} with a wrong state, {} without a row",
            found.missing, found.doubled, found.altered, found.state, found.without_row
        ),
    };
    text
}

/// A request in a line.
pub(super) fn request_shown(request: &Request) -> String {
    format!(
        "request {} at {} by {}: {} ({})\n",
        request.request,
        request.at,
        request.by.escape_debug(),
        request.command,
        request.reason.escape_debug(),
    )
}

fn finding_shown(finding: &Finding, text: &mut String) {
    let _ = writeln!(
        text,
        "{:<11} {} {} {}: {}",
        finding.kind.name(),
        finding.table.as_deref().unwrap_or("-"),
        finding.event_type.escape_debug(),
        finding.event_id.escape_debug(),
        finding.detail.escape_debug()
    );
    for place in &finding.places {
        let replay = place.replay.as_ref();
        let replay = replay.map(|request| format!(", request {request}"));
        let _ = writeln!(
            text,
            "            {} position {}{}",
            place.place,
            place.position.escape_debug(),
            replay.unwrap_or_default()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Counts, Kind, Place, TableCount};

    fn report() -> Report {
        Report {
            pipeline: "outbox".into(),
            since: "2026-01-31T10:00:00.000000Z".into(),
            until: "2026-01-31T11:00:00.000000Z".into(),
            settled: true,
            tables: vec![TableCount {
                table: "public.outbox".into(),
                rows: 3,
                untold: 0,
            }],
            ..Report::default()
        }
    }

    #[test]
    fn who_has_nothing_to_find_is_told_so() {
        assert_eq!(
            shown(&report()),
            "Events of pipeline outbox from 2026-01-31T10:00:00.000000Z to \
             2026-01-31T11:00:00.000000Z.\n\
             public.outbox: 3 rows\n\
             topics: 0 events and 0 dead letters, 0 other records\n\
             nothing found: tables and topics agree\n"
        );
    }

    #[test]
    fn a_finding_says_what_and_where() {
        let finding = Finding {
            kind: Kind::Doubled,
            table: Some("public.outbox".into()),
            event_id: "e1".into(),
            event_type: "a\nb".into(),
            detail: "2 times".into(),
            places: vec![Place {
                place: "t/0:7".into(),
                position: "0/10:0".into(),
                replay: None,
            }],
        };
        let report = Report {
            found: Counts {
                doubled: 2,
                ..Counts::default()
            },
            findings: vec![finding],
            ..report()
        };
        let text = shown(&report);
        let end = "DOUBLED     public.outbox a\\nb e1: 2 times\n            \
                   t/0:7 position 0/10:0\n\
                   1 more findings are not named\n\
                   0 missing, 2 doubled, 0 altered, 0 with a wrong state, 0 without a row\n";
        assert!(text.ends_with(end), "{text}");
    }
}
