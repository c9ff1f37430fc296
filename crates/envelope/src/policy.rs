//! Which topics routing may use.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// Longest topic name that Kafka takes (`org.apache.kafka.common.internals.Topic`).
pub(crate) const MAX_TOPIC_CHARS: usize = 249;

/// The topics that events may go to: an event whose topic is refused can't be published.
///
/// Refused whatever the lists say are invalid names and those that start with `__`, which are
/// Kafka's own. `Default` allows `transfers.*`, `ledger.*`, `compliance.*` and `recon.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPolicy {
    /// A topic must match one of these.
    pub allow: Vec<TopicPattern>,
    /// Refused though they match: the relay's own topics, for checkpoints and dead letters.
    pub deny: BTreeSet<String>,
}

impl Default for TopicPolicy {
    fn default() -> Self {
        let patterns = ["transfers.*", "ledger.*", "compliance.*", "recon.*"];
        Self {
            allow: patterns.map(|pattern| TopicPattern(pattern.into())).into(),
            deny: BTreeSet::new(),
        }
    }
}

impl TopicPolicy {
    /// Whether events may go to `topic`.
    ///
    /// # Errors
    /// Why they may not.
    pub fn check(&self, topic: &str) -> Result<(), TopicRefusal> {
        if !is_topic_name(topic) {
            return Err(TopicRefusal::Invalid);
        }
        if topic.starts_with("__") {
            return Err(TopicRefusal::Reserved);
        }
        if self.deny.contains(topic) {
            return Err(TopicRefusal::Denied);
        }
        if !self.allow.iter().any(|pattern| pattern.matches(topic)) {
            return Err(TopicRefusal::NotAllowed);
        }
        Ok(())
    }
}

/// Why events may not go to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicRefusal {
    /// Kafka would not take the name.
    #[error("no topic can have this name: 1 to 249 of the characters a-z A-Z 0-9 . _ -")]
    Invalid,
    /// The name starts with `__`.
    #[error("names that start with __ are Kafka's own")]
    Reserved,
    /// The relay keeps its own records there.
    #[error("the topic is reserved for the relay's own records")]
    Denied,
    /// No pattern matches.
    #[error("the topic is outside topics.allow; add a pattern that matches it, or fix the routing")]
    NotAllowed,
}

/// `Topic.validate` of the Kafka clients: `[a-zA-Z0-9._-]`, 1 to 249 of them, not `.` or `..`.
pub(crate) fn is_topic_name(name: &str) -> bool {
    let length = 1..=MAX_TOPIC_CHARS;
    length.contains(&name.len()) && name.bytes().all(is_topic_byte) && name != "." && name != ".."
}

pub(crate) fn is_topic_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// A policy that remembers the topics it accepted last, as events come in few topics.
#[derive(Debug)]
pub(crate) struct TopicGate {
    policy: TopicPolicy,
    accepted: [String; REMEMBERED_TOPICS],
    oldest: usize,
}

/// Comparing with this many names is cheaper than a check.
const REMEMBERED_TOPICS: usize = 8;

impl TopicGate {
    pub(crate) fn new(policy: TopicPolicy) -> Self {
        Self {
            policy,
            accepted: Default::default(),
            oldest: 0,
        }
    }

    pub(crate) fn check(&mut self, topic: &str) -> Result<(), TopicRefusal> {
        if !topic.is_empty() && self.accepted.iter().any(|accepted| accepted == topic) {
            return Ok(());
        }
        self.policy.check(topic)?;
        if let Some(slot) = self.accepted.get_mut(self.oldest) {
            slot.clear();
            slot.push_str(topic);
        }
        self.oldest = (self.oldest + 1) % REMEMBERED_TOPICS;
        Ok(())
    }
}

/// A pattern of topic names: `*` stands for any run of characters, also none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern(String);

impl TopicPattern {
    /// Whether the whole of `topic` matches.
    pub fn matches(&self, topic: &str) -> bool {
        let Some((head, rest)) = self.0.split_once('*') else {
            return self.0 == topic;
        };
        let Some(mut topic) = topic.strip_prefix(head) else {
            return false;
        };
        // Taking each middle piece where it first occurs leaves most for the pieces after it.
        let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
        for piece in middle.split('*') {
            match topic.split_once(piece) {
                Some((_, after)) => topic = after,
                None => return false,
            }
        }
        topic.ends_with(tail)
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no [`TopicPattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "topic pattern {pattern:?} can match no topic: use the characters a-z A-Z 0-9 . _ - and * for \
     any run of them"
)]
pub struct TopicPatternError {
    /// What was given.
    pub pattern: String,
}

impl FromStr for TopicPattern {
    type Err = TopicPatternError;

    fn from_str(pattern: &str) -> Result<Self, TopicPatternError> {
        let valid = pattern
            .bytes()
            .all(|byte| byte == b'*' || is_topic_byte(byte));
        if pattern.is_empty() || !valid {
            return Err(TopicPatternError {
                pattern: pattern.into(),
            });
        }
        Ok(Self(pattern.into()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, topic, expected) in [
            ("transfers.*", "transfers.completed", true),
            ("transfers.*", "transfers.", true),
            ("transfers.*", "transfers", false),
            ("transfers.*", "xtransfers.completed", false),
            ("*", "anything", true),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("*.v1", "orders.v1", true),
            ("*.v1", "orders.v12", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*b*b", "ab", false),
            ("a*b*b", "abb", true),
            ("a**b", "ab", true),
            ("ab*ba", "aba", false),
            ("*ab*", "xxabxx", true),
        ] {
            let pattern = pattern.parse::<TopicPattern>().unwrap();
            assert_eq!(pattern.matches(topic), expected, "{pattern} {topic}");
        }
    }

    #[test]
    fn the_default_allows_the_four_domains_only() {
        let policy = TopicPolicy::default();
        for topic in ["transfers.a", "ledger.a.b", "compliance.x", "recon.done"] {
            assert_eq!(policy.check(topic), Ok(()), "{topic}");
        }
        assert_eq!(policy.check("payments.a"), Err(TopicRefusal::NotAllowed));
    }

    #[test]
    fn reserved_denied_and_invalid_topics_are_refused_whatever_is_allowed() {
        let policy = TopicPolicy {
            allow: vec!["*".parse().unwrap()],
            deny: BTreeSet::from(["outboxd.checkpoints".into()]),
        };
        let longest = "a".repeat(249);
        let longer = "a".repeat(250);
        for (topic, expected) in [
            ("any.thing_else-1", Ok(())),
            (longest.as_str(), Ok(())),
            (longer.as_str(), Err(TopicRefusal::Invalid)),
            ("", Err(TopicRefusal::Invalid)),
            (".", Err(TopicRefusal::Invalid)),
            ("..", Err(TopicRefusal::Invalid)),
            ("...", Ok(())),
            ("a b", Err(TopicRefusal::Invalid)),
            ("ä", Err(TopicRefusal::Invalid)),
            ("a\0", Err(TopicRefusal::Invalid)),
            ("__consumer_offsets", Err(TopicRefusal::Reserved)),
            ("_schemas", Ok(())),
            ("outboxd.checkpoints", Err(TopicRefusal::Denied)),
            ("outboxd.checkpoints2", Ok(())),
        ] {
            assert_eq!(policy.check(topic), expected, "{topic}");
        }
    }

    #[test]
    fn a_gate_decides_as_its_policy_does() {
        let policy = TopicPolicy::default();
        let mut gate = TopicGate::new(policy.clone());
        for number in (0..100).map(|number| number * 7 % 20) {
            for topic in [
                format!("ledger.{number}"),
                format!("other.{number}"),
                String::new(),
            ] {
                assert_eq!(gate.check(&topic), policy.check(&topic), "{topic}");
            }
        }
    }

    #[test]
    fn patterns_that_match_no_topic_are_refused() {
        for pattern in ["", "a b", "transfers.+", "a?"] {
            let error = pattern.parse::<TopicPattern>().unwrap_err();
            assert_eq!(error.pattern, pattern);
        }
    }
}
