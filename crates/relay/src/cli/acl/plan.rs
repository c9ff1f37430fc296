//! The bindings that a pipeline and its consumers need, and nothing beyond them.

use std::collections::BTreeSet;

use producer::{AclBinding, AclEffect, AclOperation, AclPattern, AclResource};

use super::consumer::Consumer;
use super::pattern::EVERY;
use crate::cli::problem::Problem;
use crate::config::Pipeline;

use AclOperation::{DescribeConfigs, Read, Write};
use AclPattern::{Literal, Prefixed};
use AclResource::{Group, Topic, TransactionalId};

/// Whether the relay's principal also repairs: that reads the topics of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repairs {
    /// `outboxd repair` is run by somebody else.
    No,
    /// With the relay's own principal.
    Yes,
}

/// A resource with a pattern, without saying who may do what with it.
type Place<'a> = (AclResource, AclPattern, &'a str);

/// What a pipeline has in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ground {
    events: Vec<(AclPattern, String)>,
    checkpoint: String,
    dead_letters: Vec<String>,
    /// With the dot behind which the numbers stand.
    ids: String,
}

impl Ground {
    /// What the configuration says.
    ///
    /// # Errors
    /// A pattern of `topics.allow` that no binding can express.
    pub fn of(pipeline: &Pipeline) -> Result<Self, Problem> {
        let patterns = pipeline.topics.allow.iter().map(ToString::to_string);
        Ok(Self {
            events: patterns.map(|p| expressed(&p)).collect::<Result<_, _>>()?,
            checkpoint: pipeline.kafka.checkpoint_topic.clone(),
            dead_letters: pipeline
                .dead_letter_topics(None)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            ids: format!("{}.", pipeline.kafka.transactional_id_prefix),
        })
    }

    /// The bindings of the relay.
    pub fn relay(&self, principal: &str, repairs: Repairs) -> Vec<AclBinding> {
        let mut bindings = Vec::new();
        let mut allow = |place: Place<'_>, operations: &[AclOperation]| {
            let made = operations.iter().map(|o| binding(principal, place, *o));
            bindings.extend(made);
        };
        let on_events: &[AclOperation] = match repairs {
            Repairs::No => &[Write, DescribeConfigs],
            Repairs::Yes => &[Write, DescribeConfigs, Read],
        };
        for (pattern, name) in &self.events {
            allow((Topic, *pattern, name), on_events);
        }
        let own = std::iter::once(&self.checkpoint).chain(&self.dead_letters);
        for name in own {
            allow((Topic, Literal, name), &[Read, Write, DescribeConfigs]);
        }
        allow((TransactionalId, Prefixed, &self.ids), &[Write]);
        bindings
    }

    /// Where nobody else may write, alter or delete.
    pub fn guarded(&self) -> Vec<AclBinding> {
        let own = std::iter::once(&self.checkpoint).chain(&self.dead_letters);
        let own = own.map(|name| (Topic, Literal, name.as_str()));
        let events = self
            .events
            .iter()
            .map(|(p, name)| (Topic, *p, name.as_str()));
        let ids = std::iter::once((TransactionalId, Prefixed, self.ids.as_str()));
        let places = own.chain(events).chain(ids);
        places
            .map(|place| binding("", place, AclOperation::All))
            .collect()
    }
}

/// The bindings of consumers: their groups, the topics below their prefixes, and the topic that the
/// consumer library sends to what it can't handle.
pub(super) fn consumers(consumers: &[Consumer]) -> BTreeSet<AclBinding> {
    let needed = |consumer: &Consumer| {
        let letters = format!("{}.dead-letter", consumer.group);
        let allow = |place, operation| binding(&consumer.principal, place, operation);
        [
            allow((Group, Literal, consumer.group.as_str()), Read),
            allow((Topic, Prefixed, consumer.prefix.as_str()), Read),
            allow((Topic, Literal, letters.as_str()), Write),
        ]
    };
    consumers.iter().flat_map(needed).collect()
}

fn binding(principal: &str, place: Place<'_>, operation: AclOperation) -> AclBinding {
    let (resource, pattern, name) = place;
    AclBinding {
        principal: principal.to_owned(),
        resource,
        pattern,
        name: name.to_owned(),
        operation,
        effect: AclEffect::Allow,
        host: EVERY.to_owned(),
    }
}

/// A pattern of `topics.allow` as a binding has it: a name, or its beginning.
fn expressed(pattern: &str) -> Result<(AclPattern, String), Problem> {
    match pattern.split_once('*') {
        None => Ok((Literal, pattern.to_owned())),
        Some((prefix, "")) if !prefix.is_empty() => Ok((Prefixed, prefix.to_owned())),
        Some(_) => Err(Problem::new(
            format!("topics.allow has {pattern:?}, which no access control list can express"),
            "Allow topics by their names, or by their beginnings with one * at the end.",
        )),
    }
}

/// The command of Kafka's own tools that makes a binding, or removes it.
pub(super) fn command(bootstrap: &str, change: Change, binding: &AclBinding) -> String {
    let AclBinding {
        principal,
        resource,
        pattern,
        name,
        operation,
        effect,
        host,
    } = binding;
    let verb = match change {
        Change::Add => "--add",
        Change::Remove => "--remove --force",
    };
    let effect = match effect {
        AclEffect::Deny => "deny",
        AclEffect::Allow | AclEffect::Unknown => "allow",
    };
    let host = match host.as_str() {
        EVERY => String::new(),
        host => format!(" --{effect}-host {}", quoted(host)),
    };
    let place = match resource {
        AclResource::Cluster => "--cluster".to_owned(),
        resource => format!(
            "--{} {} --resource-pattern-type {}",
            resource.name(),
            quoted(name),
            pattern.name()
        ),
    };
    format!(
        "kafka-acls.sh --bootstrap-server {bootstrap} {verb} --{effect}-principal {}{host} \
         --operation {} {place}",
        quoted(principal),
        operation.name()
    )
}

/// What a command does to a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Makes it.
    Add,
    /// Removes it.
    Remove,
}

/// For a shell, where it needs that.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/@".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(bindings: impl IntoIterator<Item = AclBinding>) -> Vec<String> {
        bindings.into_iter().map(|b| b.to_string()).collect()
    }

    #[test]
    fn the_relay_needs_its_topics_and_its_transactional_ids() {
        let mut pipeline = Pipeline::default();
        pipeline.topics.allow = vec!["transfers.*".parse().unwrap(), "audit".parse().unwrap()];
        let ground = Ground::of(&pipeline).unwrap();
        let expected = [
            "User:r may Write prefixed topic transfers.",
            "User:r may DescribeConfigs prefixed topic transfers.",
            "User:r may Write literal topic audit",
            "User:r may DescribeConfigs literal topic audit",
            "User:r may Read literal topic outboxd.checkpoint.outbox",
            "User:r may Write literal topic outboxd.checkpoint.outbox",
            "User:r may DescribeConfigs literal topic outboxd.checkpoint.outbox",
            "User:r may Read literal topic outbox.dead-letter",
            "User:r may Write literal topic outbox.dead-letter",
            "User:r may DescribeConfigs literal topic outbox.dead-letter",
            "User:r may Write prefixed transactional-id outboxd.outbox.",
        ];
        assert_eq!(shown(ground.relay("User:r", Repairs::No)), expected);
        let repairing = shown(ground.relay("User:r", Repairs::Yes));
        assert_eq!(repairing.len(), expected.len() + 2);
        assert!(repairing.contains(&"User:r may Read literal topic audit".to_owned()));
    }

    #[test]
    fn a_pattern_that_no_list_can_express_is_a_problem() {
        for pattern in ["*", "*.v1", "a*b"] {
            let mut pipeline = Pipeline::default();
            pipeline.topics.allow = vec![pattern.parse().unwrap()];
            let problem = Ground::of(&pipeline).unwrap_err();
            assert!(problem.message.contains(pattern), "{}", problem.message);
        }
    }

    #[test]
    fn consumers_share_what_they_have_in_common() {
        let named = [
            "books=User:CN=a,O=b:transfers.",
            "books=User:CN=a,O=b:ledger.",
        ];
        let named: Vec<Consumer> = named.iter().map(|text| text.parse().unwrap()).collect();
        let expected = [
            "User:CN=a,O=b may Write literal topic books.dead-letter",
            "User:CN=a,O=b may Read prefixed topic ledger.",
            "User:CN=a,O=b may Read prefixed topic transfers.",
            "User:CN=a,O=b may Read literal group books",
        ];
        assert_eq!(shown(consumers(&named)), expected);
    }

    #[test]
    fn commands_are_what_a_shell_takes() {
        let of = |principal, place| binding(principal, place, Write);
        let odd = of("User:CN=a b", (Topic, Prefixed, "transfers."));
        assert_eq!(
            command("b:9092", Change::Add, &odd),
            "kafka-acls.sh --bootstrap-server b:9092 --add --allow-principal 'User:CN=a b' \
             --operation Write --topic transfers. --resource-pattern-type prefixed"
        );
        let everybody = of("User:*", (Topic, Literal, "*"));
        assert_eq!(
            command("b:9092", Change::Remove, &everybody),
            "kafka-acls.sh --bootstrap-server b:9092 --remove --force --allow-principal 'User:*' \
             --operation Write --topic '*' --resource-pattern-type literal"
        );
    }
}
