//! `outboxd init`: what a pipeline needs and does not have yet.
//!
//! ```text
//!  look (facts, cluster) ──► plan, topics (pure) ──► print │ apply ──► slot (pipeline::bootstrap)
//! ```
//!
//! Nothing that exists is replaced or narrowed, so it may be run at any time and any number of
//! times.

mod apply;
mod control;
mod facts;
mod plan;
mod sql;
mod topics;

use clap::Args;

use self::control::ControlFacts;
use self::facts::{DatabaseFacts, Roles};
use self::plan::{Action, Plan, Step, Verb};
use super::cluster::Cluster;
use super::problem::Problem;
use super::{Exit, Settings, database, routing};
use crate::cli::out::say;
use crate::config::{Config, Pipeline, SinkKind};
use crate::failure::Failure;
use crate::source::catalog::Catalog;

/// Brokers that are assumed where none can be asked.
const ASSUMED_BROKERS: usize = 3;

#[derive(Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    settings: Settings,
    /// Run what would be printed.
    #[arg(long)]
    apply: bool,
    /// A topic of events that is needed too; may be repeated.
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// The role that `run` connects with, where init connects as another one. It is created if it
    /// does not exist, and gets what it needs.
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// The role that writes states back, if it is not the relay's; by default that of
    /// postgres.write_back_user. It is created if it does not exist, and gets what it needs.
    #[arg(long, value_name = "NAME")]
    write_back_role: Option<String>,
    /// An existing role that gets the right to insert events.
    #[arg(long, value_name = "NAME")]
    service_role: Option<String>,
    /// An existing role that gets the right to ask for replays, and for what is to become of dead
    /// letters.
    #[arg(long, value_name = "NAME")]
    operator_role: Option<String>,
}

pub(super) fn init(args: &InitArgs) -> Result<(), Exit> {
    let config = args.settings.load()?;
    check_topics(&config, &args.topic)?;
    super::block_on(run(&config, args))?
}

/// A topic that routing would refuse is a mistake.
fn check_topics(config: &Config, named: &[String]) -> Result<(), Exit> {
    for topic in named {
        let refusals = config.pipelines.iter().map(|p| p.topics.check(topic).err());
        let Some(Some(refusal)) = refusals.min_by_key(Option::is_some) else {
            continue;
        };
        let problem = Problem::new(
            format!("no event could go to topic {topic:?}: {refusal}"),
            "Correct --topic, or pipelines.topics in the configuration.",
        );
        problem.report();
        return Err(Exit::Usage);
    }
    Ok(())
}

async fn run(config: &Config, args: &InitArgs) -> Result<(), Exit> {
    let mut problems = Vec::new();
    let mut steps = 0;
    for pipeline in &config.pipelines {
        if config.pipelines.len() > 1 {
            say!("-- pipeline {}", pipeline.name);
        }
        let survey = look(pipeline, args).await;
        steps += survey.plan.steps.len();
        let outcome = match args.apply {
            true => survey.apply(pipeline).await,
            false => survey.print(pipeline),
        };
        if args.topic.is_empty() && outcome.is_ok() {
            note_open_templates(pipeline);
        }
        problems.extend(outcome.err().into_iter().flatten());
    }
    for problem in &problems {
        problem.report();
    }
    if !problems.is_empty() {
        return Err(Exit::Failure);
    }
    if steps == 0 {
        say!("nothing to do");
    }
    Ok(())
}

/// What one pipeline lacks.
struct Survey {
    /// The primary; `None` if it can't be reached.
    catalog: Option<Catalog>,
    /// The brokers; `None` if they can't be reached or are not needed.
    cluster: Option<Cluster>,
    plan: Plan,
    /// What could not be looked at.
    unreachable: Vec<Problem>,
}

async fn look(pipeline: &Pipeline, args: &InitArgs) -> Survey {
    let roles = Roles {
        relay: args
            .role
            .clone()
            .unwrap_or_else(|| pipeline.postgres.user.clone()),
        writer: args.write_back_role.clone().or_else(|| {
            let login = pipeline.postgres.write_back.as_ref();
            login.map(|login| login.user.clone())
        }),
        service: args.service_role.clone(),
    };
    let mut unreachable = Vec::new();
    let (catalog, facts) = match look_at_database(pipeline, &roles).await {
        Ok((catalog, facts)) => (Some(catalog), facts),
        Err(failure) => {
            unreachable.push(failure.into());
            (None, DatabaseFacts::default())
        }
    };
    let mut plan = plan::database(pipeline, &roles, &facts);
    let mut cluster = None;
    if pipeline.sink == SinkKind::Kafka {
        let operator = args.operator_role.as_deref();
        match look_at_control(catalog.as_ref(), pipeline, &roles.relay, operator).await {
            Ok(facts) => {
                plan.steps
                    .extend(control::steps(pipeline, &roles.relay, &facts));
                match operator.map(|role| control::operator_steps(pipeline, role, &facts)) {
                    Some(Ok(steps)) => plan.steps.extend(steps),
                    Some(Err(problem)) => plan.problems.push(problem),
                    None => {}
                }
            }
            Err(failure) => unreachable.push(failure.into()),
        }
        match Cluster::connect(pipeline).await {
            Ok(found) => cluster = Some(found),
            Err(failure) => unreachable.push(failure.into()),
        }
        plan.steps
            .extend(missing_topics(pipeline, &args.topic, cluster.as_ref()));
        if !facts.has_slot {
            plan.steps.push(slot(pipeline));
        }
    }
    Survey {
        catalog,
        cluster,
        plan,
        unreachable,
    }
}

async fn look_at_control(
    catalog: Option<&Catalog>,
    pipeline: &Pipeline,
    relay: &str,
    operator: Option<&str>,
) -> Result<ControlFacts, Failure> {
    match catalog {
        Some(catalog) => control::look(catalog, pipeline, relay, operator).await,
        None => Ok(ControlFacts {
            operator: operator.map(|_| control::Rights::default()),
            ..ControlFacts::default()
        }),
    }
}

async fn look_at_database(
    pipeline: &Pipeline,
    roles: &Roles,
) -> Result<(Catalog, DatabaseFacts), Failure> {
    let catalog = database::primary(&pipeline.postgres).await?;
    let facts = facts::look(&catalog, pipeline, roles).await?;
    Ok((catalog, facts))
}

fn missing_topics(pipeline: &Pipeline, named: &[String], cluster: Option<&Cluster>) -> Vec<Step> {
    let brokers = cluster.map_or(ASSUMED_BROKERS, |c| c.brokers.len());
    let named: Vec<_> = named
        .iter()
        .filter(|topic| pipeline.topics.check(topic).is_ok())
        .cloned()
        .collect();
    let exists = |name: &str| cluster.is_some_and(|c| c.topics.contains_key(name));
    topics::needed(pipeline, &named, brokers)
        .into_iter()
        .filter(|topic| !exists(&topic.name))
        .map(|topic| Step {
            verb: Verb::Create,
            object: format!("topic {}", topic.name),
            action: Action::Topic(topic),
        })
        .collect()
}

fn slot(pipeline: &Pipeline) -> Step {
    Step {
        verb: Verb::Create,
        object: format!(
            "replication slot {}, with its first records in {}; {}",
            pipeline.postgres.slot,
            pipeline.kafka.checkpoint_topic,
            match pipeline.backfill.is_wanted() {
                true => "rows committed before it are published as backfill.rows says",
                false => "rows committed before it are not published",
            }
        ),
        action: Action::Slot,
    }
}

impl Survey {
    /// Prints what is to be done. What can't be looked at counts as missing.
    fn print(self, pipeline: &Pipeline) -> Result<(), Vec<Problem>> {
        for problem in &self.unreachable {
            say!("-- {}: all that may be needed is shown", problem.message);
        }
        for step in &self.plan.steps {
            let heading = format!("{} {}", step.verb.imperative(), step.object);
            match &step.action {
                Action::Sql(statement) => say!("-- {heading}\n{statement}"),
                Action::Topic(topic) => {
                    say!("# {heading}\n{}", topic.command(&pipeline.kafka.bootstrap));
                }
                Action::Slot => {
                    say!(
                        "# {heading}\n#   `outboxd init --apply` or the first `outboxd run` does it"
                    );
                }
            }
        }
        match self.plan.problems {
            problems if problems.is_empty() => Ok(()),
            problems => Err(problems),
        }
    }

    /// Does what is to be done; nothing of it unless all of it can be tried.
    async fn apply(self, pipeline: &Pipeline) -> Result<(), Vec<Problem>> {
        let mut obstacles = self.unreachable;
        obstacles.extend(self.plan.problems);
        if !obstacles.is_empty() {
            return Err(obstacles);
        }
        let Some(catalog) = &self.catalog else {
            return Ok(());
        };
        for step in &self.plan.steps {
            let taken = match &step.action {
                Action::Sql(statement) => apply::sql(catalog, statement).await,
                Action::Topic(topic) => match &self.cluster {
                    Some(cluster) => apply::topic(cluster, pipeline, topic).await,
                    None => Ok(()),
                },
                Action::Slot => apply::slot(pipeline).await,
            };
            taken.map_err(|problem| vec![problem])?;
            say!("{} {}", step.verb.past(), step.object);
        }
        Ok(())
    }
}

/// Topics that only events name can't be made here.
fn note_open_templates(pipeline: &Pipeline) {
    if pipeline.sink == SinkKind::Stdout {
        return;
    }
    for template in routing::open_templates(pipeline) {
        say!(
            "# topics named by {template} are known only when events come: give those that are \
             needed with --topic NAME"
        );
    }
}
