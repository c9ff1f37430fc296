//! `outboxd repair`.

use std::fmt::Write as _;

use clap::Args;
use pgoutput::Lsn;

use super::problem::Problem;
use super::progress::Progress;
use super::{Exit, Settings, one_pipeline};
use crate::cli::out::{self, say};
use crate::config::{Pipeline, is_timestamp};
use crate::failure::Failure;
use crate::repair::{self, Done, Phantoms, Plan, Step, TableReport, Ways};

#[derive(Args)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    settings: Settings,
    /// The pipeline, where there are several.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Do it: make another slot, and publish what is unpublished before its stream.
    #[arg(long)]
    apply: bool,
    /// Repair though slot and checkpoint agree: after feed-lost, transaction-missing and
    /// transaction-foreign, which a look at slot and checkpoint does not show.
    #[arg(long)]
    anyway: bool,
    /// Look at records of the topics that were committed from this time on (by default at all), and,
    /// where no state tells which rows are published, at rows of events from then on (by default from an
    /// hour before the last one that was published).
    #[arg(long, value_name = "TIMESTAMP", value_parser = timestamp)]
    since: Option<String>,
    /// Read only this topic; may be repeated. By default all that routing may use, and the
    /// dead-letter topics.
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// Name every row that would be published.
    #[arg(long)]
    list: bool,
    /// List events at this position or later that have no row here: the relay names it when it
    /// follows a promoted server.
    #[arg(long, value_name = "LSN", conflicts_with = "apply")]
    phantoms_from: Option<Lsn>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// A date, or a date and time, as Postgres reads it.
pub(super) fn timestamp(text: &str) -> Result<String, String> {
    match is_timestamp(text) {
        true => Ok(text.to_owned()),
        false => Err("a timestamp is written as 2026-01-31T10:00:00Z".to_owned()),
    }
}

pub(super) fn repair(args: &RepairArgs) -> Result<(), Exit> {
    let config = args.settings.load()?;
    let pipeline = one_pipeline(&config, args.pipeline.as_deref())?;
    let ways = Ways {
        anyway: args.anyway,
        since: args.since.clone(),
        topics: args.topic.clone(),
        list: args.list,
        phantoms_from: args.phantoms_from,
    };
    let ended = super::block_on(async {
        match args.apply {
            true => apply(pipeline, &ways, args.json).await,
            false => plan(pipeline, &ways, args.json).await,
        }
    })?;
    ended.map_err(|failure| {
        problem(failure).report();
        Exit::Failure
    })
}

/// A relay waits for the slot; a repair does not.
fn problem(failure: Failure) -> Problem {
    let mut problem = Problem::from(failure);
    if problem.code == Some("slot-active") {
        "Stop the relay that reads from the slot, then give this command again; a stopped pipeline \
         and a standby may stay."
            .clone_into(&mut problem.remedy);
    }
    problem
}

async fn plan(pipeline: &Pipeline, ways: &Ways, json: bool) -> Result<(), Failure> {
    match shown_at_work(async |tell| repair::plan(pipeline, ways, tell).await).await? {
        None => nothing(json),
        Some(plan) if json => print_json(&plan),
        Some(plan) => say!(
            "{}nothing was changed: --apply does it",
            shown(&plan, "would be published")
        ),
    }
    Ok(())
}

async fn apply(pipeline: &Pipeline, ways: &Ways, json: bool) -> Result<(), Failure> {
    match shown_at_work(async |tell| repair::apply(pipeline, ways, tell).await).await? {
        None => nothing(json),
        Some(done) if json => print_json(&done),
        Some(done) => out::write(format_args!("{}", carried_out(&done))),
    }
    Ok(())
}

/// Its progress is gone before anything is printed.
async fn shown_at_work<T>(work: impl AsyncFnOnce(&dyn Fn(Step)) -> T) -> T {
    let progress = Progress::start("looking at slot and checkpoint");
    work(&|step| match step {
        Step::Tables => progress.say("tables"),
        Step::Records(records) => progress.say(format!("topics: {records} records")),
        Step::Gathering => progress.say("writing down what is unpublished"),
        Step::Marking => progress.say("rows that are published take their state"),
    })
    .await
}

fn nothing(json: bool) {
    match json {
        true => say!("null"),
        false => say!(
            "nothing to repair: slot and checkpoint agree. After feed-lost, transaction-missing or \
             transaction-foreign, which they do not show, give --anyway"
        ),
    }
}

fn print_json(document: &impl serde::Serialize) {
    match serde_json::to_string(document) {
        Ok(text) => say!("{text}"),
        Err(error) => eprintln!("outboxd: the answer can't be written as JSON: {error}"),
    }
}

/// The plan for people.
fn shown(plan: &Plan, what: &str) -> String {
    let mut text = String::new();
    let diagnosis = &plan.diagnosis;
    let _ = writeln!(text, "{} [{}]", diagnosis.message, diagnosis.code);
    let _ = match &diagnosis.reach {
        None => writeln!(text, "There is no record of what was published."),
        Some(reach) => {
            let published = match (reach.commit_lsn, &plan.published_until) {
                (Some(lsn), Some(until)) => {
                    format!("Published up to the transaction at {lsn}, committed at {until}")
                }
                (Some(lsn), None) => format!("Published up to the transaction at {lsn}"),
                (None, _) => "Nothing of the stream was published yet".to_owned(),
            };
            writeln!(
                text,
                "{published}; confirmed up to {} on timeline {}.",
                reach.confirmed_up_to, reach.timeline
            )
        }
    };
    if plan.carried > 0 {
        let _ = writeln!(
            text,
            "{} rows are left of a feed that was under way; they come first.",
            plan.carried
        );
    }
    for table in &plan.tables {
        table_shown(table, what, &mut text);
    }
    if let Some(phantoms) = &plan.phantoms {
        phantoms_shown(phantoms, &mut text);
    }
    for request in &plan.requests {
        let _ = writeln!(text, "Perhaps not carried out, give it again: {request}");
    }
    if let Some(holder) = &plan.holder {
        let _ = writeln!(
            text,
            "The slot is held by {holder}: stop it before --apply, unless it is a relay that is stopped, which only looks \
             now and then."
        );
    }
    if !plan.has_schema {
        let _ = writeln!(
            text,
            "--apply needs schema outboxd: run `outboxd init --apply` first."
        );
    }
    text
}

fn table_shown(table: &TableReport, what: &str, text: &mut String) {
    let _ = writeln!(
        text,
        "{}: {} {what}. Of {} that are looked at ({}), {} are in the topics and {} in dead-letter \
         topics.",
        table.table,
        table.unpublished,
        table.suspects,
        table.chosen_by,
        table.published,
        table.dead_lettered
    );
    if table.carried > 0 {
        let _ = writeln!(
            text,
            "  {} are part of the feed that goes on.",
            table.carried
        );
    }
    let ends = [("first", &table.first), ("last", &table.last)];
    for (which, row) in ends {
        if let Some(row) = row {
            let at = row.at.as_deref().unwrap_or("-");
            let _ = writeln!(text, "  {which}: {} {} {at}", row.id, row.event_type);
        }
    }
    for row in &table.rows {
        let at = row.at.as_deref().unwrap_or("-");
        let _ = writeln!(text, "    {} {} {at}", row.id, row.event_type);
    }
    if let Some(doubt) = &table.doubt {
        let _ = writeln!(text, "  Can't be proven: {doubt}.");
    }
}

fn phantoms_shown(phantoms: &Phantoms, text: &mut String) {
    let _ = writeln!(
        text,
        "{} events were published whose rows this server does not have: lost with another server, \
         deleted since, or of somebody else who writes to these topics.",
        phantoms.count
    );
    for event in &phantoms.events {
        let _ = writeln!(
            text,
            "    {} {} in {}, position {}",
            event.id, event.event_type, event.topic, event.position
        );
    }
}

/// What was done, for people.
fn carried_out(done: &Done) -> String {
    let mut text = shown(&done.plan, "are published next");
    let _ = writeln!(
        text,
        "Made another slot at {}. The relay publishes {} rows before it streams.",
        done.slot_at, done.feeds
    );
    if done.marked > 0 {
        let _ = writeln!(
            text,
            "{} rows whose events are in the topics took the state that says so.",
            done.marked
        );
    }
    if let Some(reason) = &done.unmarked {
        let _ = writeln!(
            text,
            "Rows whose events are in the topics keep the state PENDING: {reason}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::repair::{Diagnosis, Reach, RowName};

    fn plan() -> Plan {
        let row = |id: &str| RowName {
            id: id.into(),
            event_type: "transfers.settled".into(),
            at: Some("2026-01-31 10:00:00+00".into()),
        };
        Plan {
            diagnosis: Diagnosis {
                code: "slot-lost",
                message: "replication slot \"outboxd\" is lost: wal_removed".into(),
                reach: Some(Reach {
                    commit_lsn: Some(Lsn::from(0x10)),
                    commit_time_us: Some(0),
                    confirmed_up_to: Lsn::from(0x20),
                    timeline: 1,
                }),
                feed: None,
                phantoms_from: None,
            },
            published_until: Some("2026-01-31 09:00:00+00".into()),
            holder: None,
            has_schema: true,
            carried: 0,
            tables: vec![TableReport {
                table: "public.outbox".into(),
                chosen_by: "rows that are PENDING".into(),
                suspects: 3,
                published: 1,
                unpublished: 2,
                first: Some(row("a")),
                last: Some(row("b")),
                ..TableReport::default()
            }],
            phantoms: None,
            requests: vec![],
        }
    }

    #[test]
    fn who_repairs_does_not_wait_for_the_slot() {
        let held = problem(Failure::new("slot-active", "held"));
        assert!(held.remedy.starts_with("Stop the relay"), "{held:?}");
        let other = Failure::new("slot-lost", "lost");
        assert_eq!(problem(other.clone()).remedy, other.code.remedy);
    }

    #[test]
    fn a_slot_of_which_nothing_was_published_yet_says_so() {
        let mut plan = plan();
        plan.published_until = None;
        if let Some(reach) = &mut plan.diagnosis.reach {
            reach.commit_lsn = None;
        }
        let text = shown(&plan, "would be published");
        assert!(
            text.contains("Nothing of the stream was published yet; confirmed up to 0/20"),
            "{text}"
        );
    }

    #[test]
    fn the_plan_says_what_since_when_and_which_rows() {
        assert_eq!(
            shown(&plan(), "would be published"),
            "replication slot \"outboxd\" is lost: wal_removed [slot-lost]\n\
             Published up to the transaction at 0/10, committed at 2026-01-31 09:00:00+00; \
             confirmed up to 0/20 on timeline 1.\n\
             public.outbox: 2 would be published. Of 3 that are looked at (rows that are PENDING), \
             1 are in the topics and 0 in dead-letter topics.\n  \
             first: a transfers.settled 2026-01-31 10:00:00+00\n  \
             last: b transfers.settled 2026-01-31 10:00:00+00\n"
        );
    }

    #[test]
    fn the_document_has_what_the_text_has() {
        let document = serde_json::to_value(plan()).unwrap();
        assert_eq!(document["code"], "slot-lost");
        assert_eq!(document["reach"]["commit_lsn"], "0/10");
        assert_eq!(document["tables"][0]["unpublished"], 2);
        assert_eq!(document["tables"][0]["first"]["type"], "transfers.settled");
    }

    #[test]
    fn a_timestamp_is_no_other_text() {
        assert!(timestamp("2026-01-31T10:00:00Z").is_ok());
        assert!(timestamp("yesterday").is_err());
    }
}
