//! `outboxd prune`: removes published rows that are old enough, once.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::problem::Problem;
use super::progress::Progress;
use super::{Exit, Settings};
use crate::cli::out::say;
use crate::config::{Config, Pipeline, parse_duration};
use crate::failure::Failure;
use crate::retention::{self, Extent, Order, Progress as Reached, TableReport};
use crate::source;
use crate::source::link::Link;

#[derive(Args)]
pub(super) struct PruneArgs {
    #[command(flatten)]
    settings: Settings,
    /// Only this pipeline.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Age at which rows go, such as 7d; without it retention.period of the configuration.
    #[arg(long, value_name = "AGE", value_parser = parse_duration)]
    older_than: Option<Duration>,
    /// Where states are not written back: take rows from before the slot's stream for published ones.
    /// Nothing tells them apart, so you have to know.
    #[arg(long)]
    accept_earlier_rows: bool,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What was done in one pipeline.
#[derive(Debug, Serialize)]
struct PipelineReport {
    pipeline: String,
    dry_run: bool,
    tables: Vec<TableReport>,
}

pub(super) fn prune(args: &PruneArgs) -> Result<(), Exit> {
    let config = args.settings.load()?;
    let pipelines = chosen(&config, args)?;
    super::block_on(run(&pipelines, args))?
}

/// The pipelines to go through, each with the age at which rows go.
fn chosen<'a>(config: &'a Config, args: &PruneArgs) -> Result<Vec<(&'a Pipeline, Duration)>, Exit> {
    let is_meant = |p: &&Pipeline| args.pipeline.as_ref().is_none_or(|name| *name == p.name);
    let meant: Vec<_> = config.pipelines.iter().filter(is_meant).collect();
    let aged: Vec<_> = meant
        .iter()
        .filter_map(|p| Some((*p, args.older_than.or(p.retention.period)?)))
        .collect();
    let problem = match (meant.is_empty(), aged.is_empty()) {
        (true, _) => Problem::new(
            format!(
                "there is no pipeline {:?}",
                args.pipeline.as_deref().unwrap_or_default()
            ),
            "Correct --pipeline.",
        ),
        (false, true) => Problem::new(
            "it is not said how old rows must be to be removed",
            "Give --older-than, such as 7d, or set retention.period in the configuration.",
        ),
        (false, false) => return Ok(aged),
    };
    problem.report();
    Err(Exit::Usage)
}

async fn run(pipelines: &[(&Pipeline, Duration)], args: &PruneArgs) -> Result<(), Exit> {
    let mut reports = Vec::with_capacity(pipelines.len());
    let mut outcome = Ok(());
    for (pipeline, age) in pipelines {
        match prune_pipeline(pipeline, *age, args).await {
            Ok(tables) => reports.push(PipelineReport {
                pipeline: pipeline.name.clone(),
                dry_run: args.dry_run,
                tables,
            }),
            Err(failure) => {
                problem(failure).report();
                outcome = Err(Exit::Failure);
            }
        }
    }
    match args.json {
        true => say!("{}", serde_json::json!({ "pipelines": reports })),
        false => reports.iter().for_each(print),
    }
    outcome
}

async fn prune_pipeline(
    pipeline: &Pipeline,
    age: Duration,
    args: &PruneArgs,
) -> Result<Vec<TableReport>, Failure> {
    let order = Order {
        period: age,
        extent: match args.dry_run {
            true => Extent::Count,
            false => Extent::Remove,
        },
        accepts_earlier_rows: args.accept_earlier_rows,
    };
    // Only the catalog knows which of the hosts is the primary.
    let postgres = pipeline.postgres.for_write_back();
    let primary = source::primary(&postgres).await?;
    let link = Link::connect(&postgres, primary.host(), retention::PURPOSE).await?;
    let progress = Progress::start("looking for rows that may go");
    let recorded = retention::recorded(pipeline);
    retention::run(&link.client, pipeline, order, recorded, |reached| {
        let Reached {
            table,
            pages,
            pages_total,
            removed,
        } = reached;
        let count = |pages: i64| pages.unsigned_abs();
        progress.at(
            count(pages),
            count(pages_total),
            format!("{table}: {removed} rows"),
        );
    })
    .await
}

fn print(report: &PipelineReport) {
    let verb = if report.dry_run {
        "would remove"
    } else {
        "removed"
    };
    for table in &report.tables {
        let name = &table.table;
        if table.partitions.is_empty() && table.kept.is_empty() {
            say!("{name}: {verb} {} rows", table.rows);
        }
        for partition in &table.partitions {
            say!("{name}: {verb} partition {partition}");
        }
        for kept in &table.kept {
            say!(
                "{name}: kept partition {}: {} rows in it are not known to be published",
                kept.partition,
                kept.rows
            );
        }
    }
}

/// The relay's role may remove rows only where it is to do that by itself.
fn problem(failure: Failure) -> Problem {
    let mut problem = Problem::from(failure);
    if problem.code == Some("permission-denied") {
        "Give the command as the owner of the table, with --postgres postgres://OWNER@HOST/DATABASE and the \
         password in OUTBOXD_POSTGRES_PASSWORD. Or set retention.period and run `outboxd init --apply \
         --role <role>` as an administrator, which then grants it to the relay's role."
            .clone_into(&mut problem.remedy);
    }
    problem
}
