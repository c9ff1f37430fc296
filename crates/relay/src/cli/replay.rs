//! `outboxd replay`: publishes rows again, on purpose.
//!
//! The rows and the request are written down in one transaction. The request reaches the relay
//! through the WAL, in its place among the events, and is carried out exactly once.

use clap::Args;
use pgoutput::Lsn;
use serde_json::{Value, json};

use super::dlq::survey_again;
use super::problem::Problem;
use super::repair::timestamp;
use super::requests::{self, Waiting};
use super::{Exit, Settings, one_pipeline};
use crate::cli::out::say;
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::feed::gather::{Filter, Gathering};
use crate::feed::shape::Shape;
use crate::feed::{self, Connection, table_name};

#[derive(Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    settings: Settings,
    /// The pipeline, where there are several.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// The event with this id; may be repeated.
    #[arg(long, value_name = "EVENT_ID")]
    id: Vec<String>,
    /// Events of this type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Events that occurred then or later.
    #[arg(long, value_name = "TIMESTAMP", value_parser = timestamp)]
    since: Option<String>,
    /// Events that occurred before.
    #[arg(long, value_name = "TIMESTAMP", value_parser = timestamp)]
    until: Option<String>,
    /// Only this table, as schema.table.
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Why; it is kept in outboxd.control.
    #[arg(long)]
    reason: String,
    /// Do it, rather than say how many events there are.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    waiting: Waiting,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

pub(super) fn replay(args: &ReplayArgs) -> Result<(), Exit> {
    let config = args.settings.load()?;
    let pipeline = one_pipeline(&config, args.pipeline.as_deref())?;
    check(args, pipeline).map_err(|problem| {
        problem.report();
        Exit::Usage
    })?;
    super::block_on(run(args, pipeline))?.map_err(|problem| {
        problem.report();
        Exit::Failure
    })
}

fn check(args: &ReplayArgs, pipeline: &Pipeline) -> Result<(), Problem> {
    let chooses = !args.id.is_empty()
        || args.event_type.is_some()
        || args.since.is_some()
        || args.until.is_some();
    if !chooses {
        return Err(Problem::new(
            "nothing says which events are to be published again",
            "Give --id, --type, --since or --until. With several, all of them must hold.",
        ));
    }
    if args.reason.trim().is_empty() {
        return Err(Problem::new("--reason is empty", "Say why."));
    }
    let known = |name: &String| pipeline.tables.iter().any(|spec| table_name(spec) == *name);
    match &args.table {
        Some(name) if !known(name) => Err(Problem::new(
            format!("pipeline {} has no table {name}", pipeline.name),
            "Name it as schema.table, as in the configuration.",
        )),
        Some(_) | None => Ok(()),
    }
}

async fn run(args: &ReplayArgs, pipeline: &Pipeline) -> Result<(), Problem> {
    let filter = Filter {
        ids: args.id.clone(),
        event_type: args.event_type.clone(),
        since: args.since.clone(),
        until: args.until.clone(),
        is_pending: false,
    };
    let connection = requests::open(pipeline, "a replay")
        .await
        .map_err(requests::refused)?;
    if !args.yes {
        let counts = count(&connection, pipeline, args, &filter)
            .await
            .map_err(requests::refused)?;
        tell_counts(&counts, args.json);
        return Ok(());
    }
    let asked = ask(&connection, pipeline, args, &filter)
        .await
        .map_err(requests::refused)?;
    let Some(asked) = asked else {
        tell(args.json, &json!({ "rows": 0 }), "no event is like that");
        return Ok(());
    };
    let Asked {
        request,
        rows,
        committed,
    } = &asked;
    let mut document = json!({ "request": request, "rows": rows, "done": false });
    if args.waiting.no_wait {
        let text = format!("asked for {rows} events again, request {request}");
        tell(args.json, &document, &text);
        return Ok(());
    }
    requests::await_confirmed(&connection, pipeline, *committed, args.waiting.timeout).await?;
    let failed = failed_again(pipeline, request).map_err(|failure| Failure {
        message: format!(
            "it is carried out, but which events failed again could not be read: {failure}"
        ),
        ..failure
    })?;
    let published = rows.saturating_sub(failed);
    document["done"] = Value::Bool(true);
    document["published"] = published.into();
    document["failed_again"] = failed.into();
    let text = format!("published {published} events again, request {request}");
    tell(args.json, &document, &text);
    requests::shortfall(failed).map_or(Ok(()), Err)
}

/// How many events of a request are dead letters.
fn failed_again(pipeline: &Pipeline, request: &str) -> Result<u64, Failure> {
    let mut failed = 0;
    survey_again(pipeline, None)?.each(|_, entry, _| {
        let (_, of) = envelope::published_again(&entry.headers, entry.position);
        failed += u64::from(of == Some(request));
    })?;
    Ok(failed)
}

fn tell(json: bool, document: &Value, text: &str) {
    match json {
        true => say!("{document}"),
        false => say!("{text}"),
    }
}

/// The tables that are asked for.
fn chosen<'a>(
    pipeline: &'a Pipeline,
    args: &'a ReplayArgs,
) -> impl Iterator<Item = (&'a envelope::TableSpec, &'a crate::config::StateSpec)> {
    let is_chosen = |spec: &envelope::TableSpec| {
        let name = args.table.as_ref();
        name.is_none_or(|name| table_name(spec) == *name)
    };
    pipeline
        .outboxes()
        .filter(move |(_, spec, _)| is_chosen(spec))
        .map(|(_, spec, state)| (spec, state))
}

/// What is like the filter in a table.
struct Count {
    table: String,
    rows: i64,
    first: Option<String>,
    last: Option<String>,
}

async fn count(
    connection: &Connection,
    pipeline: &Pipeline,
    args: &ReplayArgs,
    filter: &Filter,
) -> Result<Vec<Count>, Failure> {
    let mut counts = Vec::new();
    for (spec, state) in chosen(pipeline, args) {
        let shape = Shape::read(connection, spec, state).await?;
        let condition = filter.condition(&shape, spec)?;
        let at = shape.occurred_at.as_ref();
        let at = at.map_or("NULL".to_owned(), |column| format!("t.{column}"));
        let table = &shape.table;
        let sql = format!(
            "SELECT count(*), min({at})::text, max({at})::text FROM {table} t WHERE {condition}"
        );
        let rows = connection.rows(&sql, &[]).await?;
        counts.extend(rows.first().map(|row| Count {
            table: table_name(spec),
            rows: row.get(0),
            first: row.get(1),
            last: row.get(2),
        }));
    }
    Ok(counts)
}

fn tell_counts(counts: &[Count], json: bool) {
    if json {
        let table = |count: &Count| {
            json!({ "table": count.table, "rows": count.rows,
                    "first": count.first, "last": count.last })
        };
        let tables: Vec<_> = counts.iter().map(table).collect();
        return say!("{}", json!({ "dry_run": true, "tables": tables }));
    }
    for count in counts {
        let end = |at: &Option<String>| at.clone().unwrap_or_else(|| "-".to_owned());
        say!(
            "{}: {} events, of {} to {}",
            count.table,
            count.rows,
            end(&count.first),
            end(&count.last)
        );
    }
    say!("nothing was done: --yes publishes them again");
}

/// A request that is written down.
struct Asked {
    request: String,
    rows: u64,
    /// The end of the WAL after its commit.
    committed: Lsn,
}

/// Writes rows and request down, in one transaction. `None` without rows.
async fn ask(
    connection: &Connection,
    pipeline: &Pipeline,
    args: &ReplayArgs,
    filter: &Filter,
) -> Result<Option<Asked>, Failure> {
    let request = feed::new_request();
    connection.execute("BEGIN").await?;
    let mut gathering = Gathering::new(pipeline, connection, &request);
    for outbox in chosen(pipeline, args) {
        let order_by = pipeline.backfill.order_by.as_deref();
        gathering.add(outbox, filter, order_by).await?;
    }
    let rows = gathering.rows();
    if rows == 0 {
        connection.execute("ROLLBACK").await?;
        return Ok(None);
    }
    let command = json!({
        "command": "replay", "rows": rows, "filter": {
            "ids": filter.ids, "type": filter.event_type,
            "since": filter.since, "until": filter.until, "table": args.table,
        },
    });
    requests::insert(connection, pipeline, &request, &args.reason, &command).await?;
    connection.execute("COMMIT").await?;
    // The commit was flushed, so the flushed WAL ends behind it.
    let committed = connection.wal_end().await?;
    Ok(Some(Asked {
        request,
        rows,
        committed,
    }))
}
