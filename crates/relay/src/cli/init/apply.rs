//! Taking the steps of a plan.

use std::time::{Duration, Instant};

use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use tokio_postgres::error::SqlState;

use super::topics::TopicPlan;
use crate::cli::cluster::{Cluster, options, refusal};
use crate::cli::problem::Problem;
use crate::config::Pipeline;
use crate::failure::{Failure, chain};
use crate::pipeline;
use crate::sink::kafka;
use crate::source::catalog::Catalog;

/// How long a new topic may take to be known to the brokers, and a broker that has just started to take part.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
/// How long whatever passes by itself may keep the slot from being created.
const SLOT_PATIENCE: Duration = Duration::from_secs(30);

/// Runs a statement.
pub(super) async fn sql(catalog: &Catalog, statement: &str) -> Result<(), Problem> {
    let done = catalog.client().batch_execute(statement).await;
    done.map_err(|error| refused(statement, &error))
}

fn refused(statement: &str, error: &tokio_postgres::Error) -> Problem {
    let first_line = statement.lines().next().unwrap_or_default();
    let denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
    Problem {
        code: denied.then_some("permission-denied"),
        message: format!("running {first_line:?}: {}", chain(error)),
        remedy: if denied {
            "Connect as a superuser or as the owner of the tables, with --postgres URL and the \
             relay's own role as --role NAME; or have what `outboxd init` prints run by somebody \
             who may."
        } else {
            "Correct the cause and run init again: what has been done is passed over."
        }
        .to_owned(),
    }
}

/// Creates a topic and waits until it can be used.
pub(super) async fn topic(
    cluster: &Cluster,
    pipeline: &Pipeline,
    plan: &TopicPlan,
) -> Result<(), Problem> {
    let attempt = format!("creating topic {}", plan.name);
    let replication = TopicReplication::Fixed(plan.replicas);
    let mut topic = NewTopic::new(&plan.name, plan.partitions, replication);
    for (name, value) in &plan.settings {
        topic = topic.set(name, value);
    }
    // A broker that has just started counts once the controller has heard of it.
    let may_count_yet = usize::try_from(plan.replicas).is_ok_and(|n| n <= cluster.brokers.len());
    let deadline = Instant::now() + PATIENCE;
    while let Err(code) = create(cluster, &topic, &attempt).await? {
        let is_early = may_count_yet && code == RDKafkaErrorCode::InvalidReplicationFactor;
        if !is_early || Instant::now() > deadline {
            return Err(not_created(&attempt, plan, code));
        }
        tokio::time::sleep(POLL).await;
    }
    await_topic(pipeline, &plan.name)
        .await
        .map_err(Problem::from)
}

/// Asks for a topic; what the brokers have against it.
async fn create(
    cluster: &Cluster,
    topic: &NewTopic<'_>,
    attempt: &str,
) -> Result<Result<(), RDKafkaErrorCode>, Failure> {
    let created = cluster.admin().create_topics([topic], &options()).await;
    let created = created.map_err(|e| kafka::failure(attempt, &e))?;
    let refused = created.into_iter().find_map(|result| match result {
        Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => None,
        Err((_, code)) => Some(code),
    });
    Ok(refused.map_or(Ok(()), Err))
}

fn not_created(attempt: &str, plan: &TopicPlan, code: RDKafkaErrorCode) -> Problem {
    let problem = Problem::from(refusal(attempt, code));
    match code {
        RDKafkaErrorCode::InvalidReplicationFactor => Problem {
            remedy: format!(
                "Set kafka.topics.replication_factor to no more than the number of brokers; it is {}.",
                plan.replicas
            ),
            ..problem
        },
        _ => problem,
    }
}

async fn await_topic(pipeline: &Pipeline, name: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let cluster = Cluster::connect(pipeline).await?;
        let topic = cluster.topics.get(name).copied().unwrap_or_default();
        if topic.partitions > 0 && topic.leaderless == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            let message = format!("topic {name} was created, but no broker leads it yet");
            return Err(Failure::new("kafka-unreachable", message));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Creates the slot, in the order that a start needs: intent, slot, genesis.
pub(super) async fn slot(pipeline: &Pipeline) -> Result<(), Problem> {
    let deadline = Instant::now() + SLOT_PATIENCE;
    let mut failed = None;
    let created = loop {
        match (pipeline::bootstrap(pipeline).await, failed) {
            (Err(failure), _) if failure.is_transient() && Instant::now() < deadline => {
                failed = Some(failure);
                tokio::time::sleep(POLL).await;
            }
            // The slot is of an attempt that did not come to its end: `run` goes on with that.
            (Ok(false), Some(failure)) => break Err(failure),
            (created, _) => break created,
        }
    };
    match created {
        Ok(_) => Ok(()),
        Err(failure) if failure.code.name == "replication-denied" => Err(Problem {
            remedy: "Everything else is done. Start `outboxd run`: it creates the slot, as the \
                     relay's own role; or run init as a role that may stream."
                .to_owned(),
            ..Problem::from(failure)
        }),
        Err(failure) => Err(failure.into()),
    }
}
