//! The topics that a pipeline needs.

use std::collections::BTreeSet;

use crate::cli::routing::literal_topic;
use crate::config::Pipeline;
use crate::sink::CHECKPOINT_PARTITIONS;

/// Replicas where the configuration leaves them open and there are brokers enough.
const REPLICAS: usize = 3;
/// A start looks for the newest checkpoint at the end of the topic, but what stands before it must
/// not pile up: small segments are compacted soon.
const CHECKPOINT_SEGMENT_BYTES: usize = 16 << 20;
/// Transaction markers outlive the records between them by this time. A relay that commits a
/// hundred times a second leaves 30,000 of them behind.
const CHECKPOINT_MARKERS_MS: usize = 300_000;
/// `max.message.bytes` of a broker that was not told otherwise.
const BROKER_MESSAGE_BYTES: usize = 1_048_588;
/// Room for what a batch of one record adds to key, value and headers.
const BATCH_OVERHEAD_BYTES: usize = 16_384;

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicPlan {
    pub name: String,
    pub partitions: i32,
    pub replicas: i32,
    pub settings: Vec<(&'static str, String)>,
}

impl TopicPlan {
    /// The topic of the checkpoints. It always has the same partitions and is compacted.
    pub fn checkpoint(pipeline: &Pipeline, brokers: usize) -> Self {
        let name = &pipeline.kafka.checkpoint_topic;
        let partitions = i32::try_from(CHECKPOINT_PARTITIONS).unwrap_or(i32::MAX);
        let mut plan = Self::replicated(name, partitions, pipeline, brokers);
        plan.settings.extend([
            ("cleanup.policy", "compact".to_owned()),
            ("segment.bytes", CHECKPOINT_SEGMENT_BYTES.to_string()),
            ("min.cleanable.dirty.ratio", "0.01".to_owned()),
            ("delete.retention.ms", CHECKPOINT_MARKERS_MS.to_string()),
        ]);
        plan
    }

    /// A topic of events.
    pub fn events(pipeline: &Pipeline, name: &str, brokers: usize) -> Self {
        let partitions = pipeline.kafka.topics.partitions;
        let mut plan = Self::replicated(name, partitions, pipeline, brokers);
        let largest = pipeline
            .event
            .max_bytes
            .saturating_add(BATCH_OVERHEAD_BYTES);
        if largest > BROKER_MESSAGE_BYTES {
            plan.settings
                .push(("max.message.bytes", largest.to_string()));
        }
        plan
    }

    /// A topic of dead letters. They are kept until they are removed on purpose, and in one order.
    pub fn dead_letters(pipeline: &Pipeline, name: &str, brokers: usize) -> Self {
        let mut plan = Self::replicated(name, 1, pipeline, brokers);
        let largest = pipeline.dead_letter_bounds.max_bytes;
        let largest = largest.saturating_add(BATCH_OVERHEAD_BYTES);
        plan.settings.extend([
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", "-1".to_owned()),
            ("max.message.bytes", largest.to_string()),
        ]);
        plan
    }

    fn replicated(name: &str, partitions: i32, pipeline: &Pipeline, brokers: usize) -> Self {
        let wanted = &pipeline.kafka.topics;
        let affordable = i32::try_from(brokers.clamp(1, REPLICAS)).unwrap_or(1);
        let replicas = wanted.replication_factor.unwrap_or(affordable);
        let in_sync = wanted
            .min_insync_replicas
            .unwrap_or_else(|| (replicas - 1).max(1));
        Self {
            name: name.to_owned(),
            partitions,
            replicas,
            settings: vec![
                ("min.insync.replicas", in_sync.to_string()),
                ("unclean.leader.election.enable", "false".to_owned()),
            ],
        }
    }

    /// The command of Kafka's own tools that makes it.
    pub fn command(&self, bootstrap: &str) -> String {
        let mut command = format!(
            "kafka-topics.sh --bootstrap-server {bootstrap} --create --topic {} \
             --partitions {} --replication-factor {}",
            self.name, self.partitions, self.replicas
        );
        for (name, value) in &self.settings {
            command.push_str(&format!(" \\\n    --config {name}={value}"));
        }
        command
    }
}

/// Every topic that the pipeline is known to need: those of checkpoints and dead letters, those that
/// the user names, and those of templates that always give the same one.
pub(super) fn needed(pipeline: &Pipeline, named: &[String], brokers: usize) -> Vec<TopicPlan> {
    let literal = pipeline.tables.iter().filter_map(literal_topic);
    let events: BTreeSet<String> = named.iter().cloned().chain(literal).collect();
    let events = events
        .iter()
        .map(|name| TopicPlan::events(pipeline, name, brokers));
    let dead_letters = pipeline
        .dead_letter_topics(None)
        .into_iter()
        .map(|name| TopicPlan::dead_letters(pipeline, name, brokers));
    std::iter::once(TopicPlan::checkpoint(pipeline, brokers))
        .chain(dead_letters)
        .chain(events)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn setting<'a>(plan: &'a TopicPlan, name: &str) -> Option<&'a str> {
        let found = plan.settings.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| value.as_str())
    }

    #[test]
    fn replicas_follow_the_brokers_up_to_three() {
        let check = |brokers, replicas, in_sync| {
            for plan in [
                TopicPlan::checkpoint(&Pipeline::default(), brokers),
                TopicPlan::events(&Pipeline::default(), "ledger.posted", brokers),
            ] {
                assert_eq!(plan.replicas, replicas, "{brokers} brokers");
                assert_eq!(setting(&plan, "min.insync.replicas"), Some(in_sync));
            }
        };
        check(1, 1, "1");
        check(2, 2, "1");
        check(3, 3, "2");
        check(9, 3, "2");
    }

    #[test]
    fn the_configuration_overrides_replicas_and_partitions() {
        let mut pipeline = Pipeline::default();
        pipeline.kafka.topics.partitions = 12;
        pipeline.kafka.topics.replication_factor = Some(5);
        pipeline.kafka.topics.min_insync_replicas = Some(3);
        let plan = TopicPlan::events(&pipeline, "ledger.posted", 9);
        assert_eq!((plan.partitions, plan.replicas), (12, 5));
        assert_eq!(setting(&plan, "min.insync.replicas"), Some("3"));
        assert_eq!(TopicPlan::checkpoint(&pipeline, 9).partitions, 2);
    }

    #[test]
    fn larger_events_get_a_larger_limit() {
        let mut pipeline = Pipeline::default();
        let limit = |pipeline: &Pipeline| {
            let plan = TopicPlan::events(pipeline, "ledger.posted", 3);
            setting(&plan, "max.message.bytes").map(str::to_owned)
        };
        assert_eq!(limit(&pipeline), None);
        pipeline.event.max_bytes = 8 << 20;
        assert_eq!(limit(&pipeline), Some("8404992".into()));
    }

    #[test]
    fn every_topic_is_needed_once() {
        let mut pipeline = Pipeline::default();
        for table in &mut pipeline.tables {
            table.topic = "ledger.all".parse().unwrap();
        }
        let named = ["ledger.all".to_owned(), "recon.done".to_owned()];
        let plans = needed(&pipeline, &named, 1);
        let names: Vec<_> = plans.iter().map(|plan| plan.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "outboxd.checkpoint.outbox",
                "outbox.dead-letter",
                "ledger.all",
                "recon.done"
            ]
        );
    }

    #[test]
    fn the_command_says_everything() {
        let command = TopicPlan::checkpoint(&Pipeline::default(), 3).command("b:9092");
        assert_eq!(
            command,
            "kafka-topics.sh --bootstrap-server b:9092 --create --topic outboxd.checkpoint.outbox \
             --partitions 2 --replication-factor 3 \\\n    --config min.insync.replicas=2 \\\n    \
             --config unclean.leader.election.enable=false \\\n    \
             --config cleanup.policy=compact \\\n    --config segment.bytes=16777216 \\\n    \
             --config min.cleanable.dirty.ratio=0.01 \\\n    --config delete.retention.ms=300000"
        );
    }
}
