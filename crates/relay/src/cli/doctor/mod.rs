//! `outboxd doctor`: whether events can flow, and what is in their way.
//!
//! It changes nothing and disturbs no running relay: it does not stream, and the only
//! transactional id that it acquires is one of its own.

mod consumers;
mod report;
mod server;
mod slot;
mod tables;
mod topics;
mod write_back;

use clap::Args;

use self::report::{Check, Report, Section};
use self::server::ServerReadings;
use super::cluster::Cluster;
use super::database::{self, Visit};
use super::problem::Problem;
use super::{Exit, Settings};
use crate::cli::out::{self, say};
use crate::config::{Config, Pipeline, SinkKind};
use crate::decryption;
use crate::failure::Failure;
use crate::sink::kafka;
use crate::source::catalog::Catalog;

#[derive(Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    settings: Settings,
    /// A topic of events that must exist; may be repeated.
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

pub(super) fn doctor(args: &DoctorArgs) -> Result<(), Exit> {
    let mut report = Report::default();
    let outcome = match args.settings.read() {
        Ok(config) => super::block_on(examine(&config, &args.topic, &mut report)),
        Err(problem) => {
            report.sections.push(Section {
                pipeline: None,
                checks: vec![Check::fail("configuration", problem)],
            });
            Err(Exit::Config)
        }
    };
    if args.json {
        say!("{}", report.json());
    } else {
        out::write(format_args!("{}", report.text()));
    }
    outcome?;
    match report.count().failures {
        0 => Ok(()),
        _ => Err(Exit::Failure),
    }
}

async fn examine(config: &Config, named: &[String], report: &mut Report) {
    let detail = format!("valid, {} pipeline(s)", config.pipelines.len());
    report.sections.push(Section {
        pipeline: None,
        checks: vec![Check::ok("configuration", detail)],
    });
    for pipeline in &config.pipelines {
        report.sections.push(Section {
            pipeline: Some(pipeline.name.clone()),
            checks: examine_pipeline(pipeline, named).await,
        });
    }
}

async fn examine_pipeline(pipeline: &Pipeline, named: &[String]) -> Vec<Check> {
    let visits = database::visit(&pipeline.postgres).await;
    let mut checks = server::check_hosts(&visits);
    checks.extend(check_keyring(pipeline));
    let catalog = primary(visits);
    let mut has_walsender = false;
    if let Some(catalog) = &catalog {
        has_walsender = examine_database(catalog, pipeline, &mut checks).await;
    }
    let mut has_checkpoints = false;
    if pipeline.sink == SinkKind::Kafka {
        has_checkpoints = examine_kafka(pipeline, named, &mut checks).await;
    }
    if has_walsender {
        let start = slot::check_start(pipeline, has_checkpoints).await;
        add_news(&mut checks, start);
    } else if catalog.is_some() {
        let detail = "not tried, as that takes a free walsender";
        checks.push(Check::ok("replication", detail));
    }
    checks
}

/// Whether what is published in the clear can be decrypted.
fn check_keyring(pipeline: &Pipeline) -> Option<Check> {
    match decryption::read(pipeline) {
        Ok(None) => None,
        Ok(Some(decryption)) => Some(Check::ok("keyring", decryption.describe())),
        Err(failure) => Some(Check::fail("keyring", failure)),
    }
}

/// A failure that has been told by its own check is not told again.
fn add_news(checks: &mut Vec<Check>, more: Vec<Check>) {
    let known: Vec<_> = checks.iter().filter_map(|c| c.code).collect();
    let is_new = |c: &Check| c.code.is_none_or(|code| !known.contains(&code));
    checks.extend(more.into_iter().filter(is_new));
}

fn primary(visits: Vec<Visit>) -> Option<Catalog> {
    let mut servers = visits.into_iter().filter_map(|visit| visit.outcome.ok());
    servers
        .find(|server| server.is_primary)
        .map(|server| server.catalog)
}

/// Returns whether there is a walsender for a replication connection.
async fn examine_database(catalog: &Catalog, pipeline: &Pipeline, checks: &mut Vec<Check>) -> bool {
    let readings = ServerReadings::read(catalog, &pipeline.slot_name()).await;
    let has_walsender = readings.as_ref().is_ok_and(|r| r.free_senders() > 0);
    match readings {
        Ok(readings) => checks.extend(readings.check(pipeline)),
        Err(failure) => checks.push(Check::fail("server", failure)),
    }
    checks.extend(tables::check(catalog, pipeline).await);
    add_news(checks, write_back(catalog, pipeline).await);
    if pipeline.sink == SinkKind::Kafka {
        checks.push(tables::check_control(catalog, pipeline).await);
        checks.extend(slot::check(catalog, pipeline).await);
    }
    has_walsender
}

/// Asks as the role that writes, where that is another one.
async fn write_back(catalog: &Catalog, pipeline: &Pipeline) -> Vec<Check> {
    if pipeline.postgres.write_back.is_none() {
        return write_back::check(catalog, pipeline).await;
    }
    match database::primary(&pipeline.postgres.for_write_back()).await {
        Ok(catalog) => write_back::check(&catalog, pipeline).await,
        Err(failure) => vec![Check::fail("write-back", failure)],
    }
}

/// Returns whether there is a checkpoint topic to read.
async fn examine_kafka(pipeline: &Pipeline, named: &[String], checks: &mut Vec<Check>) -> bool {
    let cluster = match Cluster::connect(pipeline).await {
        Ok(cluster) => cluster,
        Err(failure) => {
            checks.push(Check::fail("brokers", failure));
            return false;
        }
    };
    let brokers = format!("{}: {}", cluster.brokers.len(), cluster.brokers.join(", "));
    checks.push(Check::ok("brokers", brokers));
    checks.extend(topics::check(&cluster, pipeline, named).await);
    checks.push(check_transactions(pipeline).await);
    checks.extend(consumers::check(&cluster, pipeline).await);
    cluster
        .topics
        .contains_key(&pipeline.kafka.checkpoint_topic)
}

/// Both modes write checkpoints in transactions.
async fn check_transactions(pipeline: &Pipeline) -> Check {
    let name = "transactions";
    let trying = pipeline.clone();
    let tried = tokio::task::spawn_blocking(move || kafka::try_transactional_id(&trying)).await;
    let tried =
        tried.unwrap_or_else(|e| Err(Failure::caused("internal", "trying a transactional id", &e)));
    match tried {
        Ok(id) => Check::ok(name, format!("allowed (tried with {id})")),
        Err(failure) => Check::fail(name, failure),
    }
}

impl From<&crate::config::ConfigErrors> for Problem {
    fn from(errors: &crate::config::ConfigErrors) -> Self {
        let remedies: Vec<_> = errors.iter().map(|e| e.remedy.as_str()).collect();
        let messages: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Self::new(messages.join("\n"), remedies.join("\n           "))
    }
}
