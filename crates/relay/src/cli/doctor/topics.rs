//! The topics and how safe they are.

use std::collections::BTreeSet;

use crate::cli::cluster::{Cluster, Settings, Topic};
use crate::cli::doctor::report::{Check, Verdict};
use crate::cli::problem::Problem;
use crate::cli::routing;
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::sink::CHECKPOINT_PARTITIONS;

/// Where the coordinators keep the state of transactions.
const TRANSACTIONS: &str = "__transaction_state";

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Checkpoints,
    DeadLetters,
    Events { max_bytes: usize },
}

/// Checks the checkpoint topic and every topic of events that is known: those that templates or
/// the user name, and those that exist and may be routed to.
pub(super) async fn check(cluster: &Cluster, pipeline: &Pipeline, named: &[String]) -> Vec<Check> {
    let checkpoint = &pipeline.kafka.checkpoint_topic;
    let required = required(pipeline, named);
    let possible = cluster
        .topics
        .keys()
        .filter(|t| pipeline.topics.check(t).is_ok());
    let events: BTreeSet<&String> = required.iter().chain(possible).collect();
    let dead_letters = pipeline.dead_letter_topics(None);
    let present: Vec<&str> = std::iter::once(checkpoint.as_str())
        .chain(dead_letters.iter().copied())
        .chain(events.iter().map(|name| name.as_str()))
        .filter(|name| cluster.topics.contains_key(*name))
        .collect();
    let settings = match cluster.settings(&present).await {
        Ok(settings) => settings,
        Err(failure) => return vec![Check::fail("topics", failure)],
    };
    let examine = |check, name: &str, purpose| match cluster.topics.get(name) {
        Some(topic) => examine(check, name, *topic, settings.get(name), purpose),
        None => missing(check, name, purpose),
    };
    let max_bytes = pipeline.event.max_bytes;
    let mut checks = vec![examine(
        "checkpoint-topic",
        checkpoint,
        Purpose::Checkpoints,
    )];
    checks.extend(
        dead_letters
            .iter()
            .map(|name| examine("dead-letter-topic", name, Purpose::DeadLetters)),
    );
    checks.extend(
        events
            .iter()
            .map(|name| examine("event-topic", name, Purpose::Events { max_bytes })),
    );
    checks.extend(unknown_topics(pipeline, events.is_empty()));
    checks.extend(transactions(cluster));
    checks
}

fn required(pipeline: &Pipeline, named: &[String]) -> BTreeSet<String> {
    let named = named.iter().filter(|t| pipeline.topics.check(t).is_ok());
    let literal = pipeline.tables.iter().filter_map(routing::literal_topic);
    named.cloned().chain(literal).collect()
}

fn missing(check: &'static str, name: &str, purpose: Purpose) -> Check {
    let failure = Failure::new("topic-missing", format!("topic {name} does not exist"));
    let remedy = match purpose {
        Purpose::Checkpoints | Purpose::DeadLetters => "Run `outboxd init --apply`.".to_owned(),
        Purpose::Events { .. } => {
            format!("Run `outboxd init --apply --topic {name}`, or create it yourself.")
        }
    };
    Check::fail(
        check,
        Problem {
            remedy,
            ..failure.into()
        },
    )
}

fn unknown_topics(pipeline: &Pipeline, none_exists: bool) -> Option<Check> {
    let templates: Vec<_> = routing::open_templates(pipeline).into_iter().collect();
    if templates.is_empty() {
        return None;
    }
    let detail = format!("topics are named by {}", templates.join(", "));
    Some(if none_exists {
        Check::warn(
            "event-topics",
            format!("{detail}, and no topic that topics.allow permits exists"),
            "Create those that events will need with `outboxd init --apply --topic NAME`.",
        )
    } else {
        Check::ok(
            "event-topics",
            format!("{detail}: only events tell whether more are needed"),
        )
    })
}

/// The coordinators' own topic, once there is one.
fn transactions(cluster: &Cluster) -> Option<Check> {
    let topic = cluster.topics.get(TRANSACTIONS)?;
    let is_alone = topic.replicas < 2 && cluster.brokers.len() > 1;
    is_alone.then(|| {
        Check::warn(
            "transaction-state",
            format!("{TRANSACTIONS} has one replica: with its broker the relay stops"),
            "Set transaction.state.log.replication.factor to 3 and reassign its partitions.",
        )
    })
}

/// One finding about a topic.
struct Finding {
    verdict: Verdict,
    detail: String,
    fix: String,
}

/// Collects findings.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, verdict: Verdict, detail: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding {
            verdict,
            detail: detail.into(),
            fix: fix.into(),
        });
    }

    fn warn(&mut self, detail: impl Into<String>, fix: impl Into<String>) {
        self.add(Verdict::Warn, detail, fix);
    }

    fn fail(&mut self, detail: impl Into<String>, fix: impl Into<String>) {
        self.add(Verdict::Fail, detail, fix);
    }

    /// One check of them all.
    fn into_check(self, name: &'static str, summary: String, purpose: Purpose) -> Check {
        let Some(verdict) = self.0.iter().map(|f| f.verdict).max() else {
            return Check::ok(name, summary);
        };
        let details: Vec<_> = self.0.iter().map(|f| f.detail.as_str()).collect();
        let fixes: Vec<_> = self.0.iter().map(|f| f.fix.as_str()).collect();
        let is_misshapen = verdict == Verdict::Fail && purpose == Purpose::Checkpoints;
        Check {
            name,
            verdict,
            detail: format!("{summary}; {}", details.join("; ")),
            code: is_misshapen.then_some("checkpoint-topic"),
            fix: Some(fixes.join(" ")),
        }
    }
}

fn examine(
    check: &'static str,
    name: &str,
    topic: Topic,
    settings: Option<&Settings>,
    purpose: Purpose,
) -> Check {
    let mut findings = Findings::default();
    availability(name, topic, &mut findings);
    if purpose == Purpose::Checkpoints && topic.partitions != CHECKPOINT_PARTITIONS {
        findings.fail(
            format!(
                "it has {} partitions instead of {CHECKPOINT_PARTITIONS}",
                topic.partitions
            ),
            "Delete it while it holds no checkpoint, or name another one (kafka.checkpoint_topic), \
             and run `outboxd init --apply`.",
        );
    }
    match settings {
        Some(settings) => examine_settings(name, topic, settings, purpose, &mut findings),
        None => findings.warn(
            "its settings can't be read",
            format!("Grant DESCRIBE_CONFIGS on topic {name} to outboxd's principal."),
        ),
    }
    let summary = format!(
        "{name}: partitions {}, replicas {}",
        topic.partitions, topic.replicas
    );
    findings.into_check(check, summary, purpose)
}

fn availability(name: &str, topic: Topic, findings: &mut Findings) {
    if topic.leaderless > 0 {
        findings.fail(
            format!("{} partitions have no leader", topic.leaderless),
            "Bring the brokers that hold them back.",
        );
    }
    if topic.replicas < 2 {
        findings.warn(
            "one replica: what it holds is lost with its broker",
            format!("With three brokers, raise the replicas of {name} to 3."),
        );
    }
}

fn examine_settings(
    name: &str,
    topic: Topic,
    settings: &Settings,
    purpose: Purpose,
    findings: &mut Findings,
) {
    let text = |key: &str| settings.get(key).map_or("", String::as_str);
    let set = |key: &str, value: &str| {
        format!(
            "Run: kafka-configs.sh --bootstrap-server … --alter --topic {name} --add-config {key}={value}."
        )
    };
    in_sync(topic, text("min.insync.replicas"), &set, findings);
    if text("unclean.leader.election.enable") == "true" {
        findings.warn(
            "an out-of-sync replica may become leader, and what it lacks is lost",
            set("unclean.leader.election.enable", "false"),
        );
    }
    let policy = text("cleanup.policy");
    match purpose {
        Purpose::Checkpoints if policy != "compact" => findings.fail(
            format!(
                "its cleanup.policy is {policy:?}: the newest checkpoint would be deleted with age"
            ),
            set("cleanup.policy", "compact"),
        ),
        Purpose::DeadLetters if text("retention.ms") != "-1" => findings.warn(
            "what nobody has looked at is deleted with age",
            set("retention.ms", "-1"),
        ),
        Purpose::Events { .. } | Purpose::DeadLetters if policy.contains("compact") => findings
            .warn(
                "it is compacted: of the events of one key only the newest stays",
                set("cleanup.policy", "delete"),
            ),
        Purpose::Checkpoints | Purpose::DeadLetters | Purpose::Events { .. } => {}
    }
    if let Purpose::Events { max_bytes } = purpose
        && let Ok(limit) = text("max.message.bytes").parse::<usize>()
        && limit < max_bytes
    {
        findings.warn(
            format!("its max.message.bytes = {limit} is below event.max_bytes = {max_bytes}"),
            "Raise max.message.bytes of the topic, or lower event.max_bytes.",
        );
    }
}

fn in_sync(
    topic: Topic,
    minimum: &str,
    set: &dyn Fn(&str, &str) -> String,
    findings: &mut Findings,
) {
    let Ok(minimum) = minimum.parse::<usize>() else {
        return;
    };
    let key = "min.insync.replicas";
    if topic.in_sync < minimum {
        findings.fail(
            format!(
                "{} replicas are in sync, fewer than {key} = {minimum}: nothing can be written",
                topic.in_sync
            ),
            "Bring the missing brokers back.",
        );
    }
    if topic.replicas >= 3 && minimum < 2 {
        findings.warn(
            format!("{key} = {minimum}: an event may be acknowledged by one broker only"),
            set(key, "2"),
        );
    }
    if topic.replicas >= 2 && minimum >= topic.replicas {
        findings.warn(
            format!("{key} = {minimum}: with one broker down nothing can be written"),
            set(key, &(topic.replicas - 1).to_string()),
        );
    }
}

#[cfg(test)]
#[path = "topics_tests.rs"]
mod tests;
