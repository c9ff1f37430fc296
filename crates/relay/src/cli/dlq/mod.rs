//! `outboxd dlq`: dead letters, and what becomes of them.
//!
//! What there is, the topics alone tell. What is to become of it is asked of the relay with a row of
//! `outboxd.control`; it answers by resolutions in the topics.

mod change;
mod choice;
mod confirm;
mod list;
mod preview;
mod show;
mod stats;

use clap::{Args, Subcommand};

use super::problem::Problem;
use super::{Exit, Settings, one_pipeline};
use crate::config::Pipeline;
use crate::dead_letters::{Reader, Survey};
use crate::failure::Failure;

#[derive(Args)]
pub(super) struct DlqArgs {
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Subcommand)]
enum DlqCommand {
    /// List dead letters that are open.
    List(list::ListArgs),
    /// Show everything about a dead letter.
    Show(show::ShowArgs),
    /// Count open dead letters and parked keys.
    Stats(stats::StatsArgs),
    /// Publish dead letters, once what was wrong is repaired.
    Replay(change::LettersArgs),
    /// Publish the events of a parked key, and let it go on.
    Release(change::ReleaseArgs),
    /// Give dead letters up.
    Drop(change::LettersArgs),
}

/// Which pipeline, and how its answers are shown.
#[derive(Args)]
struct Scope {
    #[command(flatten)]
    settings: Settings,
    /// The pipeline, where there are several.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

pub(super) fn dlq(args: &DlqArgs) -> Result<(), Exit> {
    match &args.command {
        DlqCommand::List(args) => with(&args.scope, async |p| list::run(args, p)),
        DlqCommand::Show(args) => with(&args.scope, async |p| show::run(args, p)),
        DlqCommand::Stats(args) => with(&args.scope, async |p| stats::run(args, p).await),
        DlqCommand::Replay(args) => with(&args.scope, async |p| change::replay(args, p).await),
        DlqCommand::Release(args) => with(&args.scope, async |p| change::release(args, p).await),
        DlqCommand::Drop(args) => with(&args.scope, async |p| change::drop_letters(args, p).await),
    }
}

fn with(
    scope: &Scope,
    command: impl AsyncFnOnce(&Pipeline) -> Result<(), Problem>,
) -> Result<(), Exit> {
    let config = scope.settings.load()?;
    let pipeline = one_pipeline(&config, scope.pipeline.as_deref())?;
    super::block_on(command(pipeline))?.map_err(|problem| {
        problem.report();
        Exit::Failure
    })
}

/// The dead letters of a service, or of all. A topic that is missing is told, for it seems empty; where all
/// are, there is nothing to look at.
fn survey(pipeline: &Pipeline, service: Option<&str>) -> Result<Survey, Failure> {
    let reader = Reader::open(pipeline)?;
    let topics = topics(pipeline, service);
    let missing = reader.missing(&topics)?;
    if !missing.is_empty() {
        let names = missing.join(", ");
        let message = format!("dead-letter topics that do not exist, or may not be seen: {names}");
        let failure = Failure::new("dead-letter-topic", message);
        match missing.len() == topics.len() {
            true => return Err(failure),
            false => Problem::from(failure).report(),
        }
    }
    Survey::of(reader, topics)
}

/// As [`survey`], of topics that have been looked at.
pub(super) fn survey_again(pipeline: &Pipeline, service: Option<&str>) -> Result<Survey, Failure> {
    Survey::of(Reader::open(pipeline)?, topics(pipeline, service))
}

fn topics(pipeline: &Pipeline, service: Option<&str>) -> Vec<String> {
    let topics = pipeline.dead_letter_topics(service).into_iter();
    topics.map(str::to_owned).collect()
}
