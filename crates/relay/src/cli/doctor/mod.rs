//! `outboxd doctor`: whether events can flow, and what is in their way.
//!
//! It changes nothing and disturbs no running relay: it does not stream, and the only
//! transactional id that it acquires is one of its own.

mod report;
mod server;
mod slot;
mod tables;
mod topics;

use clap::Args;

use self::report::{Check, Report, Section};
use self::server::ServerReadings;
use super::cluster::Cluster;
use super::database::{self, Visit};
use super::problem::Problem;
use super::{Exit, Settings};
use crate::config::{Config, Pipeline, SinkKind};
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
        println!("{}", report.json());
    } else {
        print!("{}", report.text());
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
    let catalog = primary(visits);
    if let Some(catalog) = &catalog {
        checks.extend(examine_database(catalog, pipeline).await);
    }
    let mut has_checkpoints = false;
    if pipeline.sink == SinkKind::Kafka {
        match Cluster::connect(pipeline).await {
            Ok(cluster) => {
                has_checkpoints = cluster
                    .topics
                    .contains_key(&pipeline.kafka.checkpoint_topic);
                checks.extend(examine_kafka(&cluster, pipeline, named).await);
            }
            Err(failure) => checks.push(Check::fail("brokers", failure)),
        }
    }
    if catalog.is_some() {
        let start = slot::check_start(pipeline, has_checkpoints).await;
        let known: Vec<_> = checks.iter().map(|c| c.code).collect();
        // What has been said with its own check is not said again.
        let is_new = |c: &Check| c.code.is_none() || !known.contains(&c.code);
        checks.extend(start.into_iter().filter(is_new));
    }
    checks
}

fn primary(visits: Vec<Visit>) -> Option<Catalog> {
    let mut servers = visits.into_iter().filter_map(|visit| visit.outcome.ok());
    servers
        .find(|server| server.is_primary)
        .map(|server| server.catalog)
}

async fn examine_database(catalog: &Catalog, pipeline: &Pipeline) -> Vec<Check> {
    let mut checks = match ServerReadings::read(catalog, &pipeline.slot_name()).await {
        Ok(readings) => readings.check(pipeline),
        Err(failure) => vec![Check::fail("server", failure)],
    };
    checks.extend(tables::check(catalog, pipeline).await);
    if pipeline.sink == SinkKind::Kafka {
        checks.extend(slot::check(catalog, pipeline).await);
    }
    checks
}

async fn examine_kafka(cluster: &Cluster, pipeline: &Pipeline, named: &[String]) -> Vec<Check> {
    let brokers = format!("{}: {}", cluster.brokers.len(), cluster.brokers.join(", "));
    let mut checks = vec![Check::ok("brokers", brokers)];
    checks.extend(topics::check(cluster, pipeline, named).await);
    checks.push(check_transactions(pipeline).await);
    checks
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
