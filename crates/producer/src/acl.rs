//! Who may do what in Kafka: the bindings of access control lists.

use std::fmt;

/// What a binding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AclResource {
    /// A topic.
    Topic,
    /// A consumer group.
    Group,
    /// The cluster as a whole; its name is always `kafka-cluster`.
    Cluster,
    /// A transactional id.
    TransactionalId,
    /// One that this client does not know, such as a delegation token.
    Unknown,
}

/// How a binding's name is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AclPattern {
    /// The whole name; `*` alone stands for all.
    Literal,
    /// Its beginning.
    Prefixed,
    /// One that this client does not know.
    Unknown,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // Kafka's own names.
pub enum AclOperation {
    All,
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    ClusterAction,
    DescribeConfigs,
    AlterConfigs,
    IdempotentWrite,
    /// One that this client does not know.
    Unknown,
}

/// Whether a binding allows or forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AclEffect {
    /// It allows.
    Allow,
    /// It forbids, and wins over what allows.
    Deny,
    /// Neither is known.
    Unknown,
}

/// One entry of the access control lists.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AclBinding {
    /// Whom it is about, such as `User:outboxd`; `User:*` is everybody.
    pub principal: String,
    /// What it is about.
    pub resource: AclResource,
    /// How the name is compared.
    pub pattern: AclPattern,
    /// The name of what it is about.
    pub name: String,
    /// What is done to it.
    pub operation: AclOperation,
    /// Whether that is allowed.
    pub effect: AclEffect,
    /// From which address; `*` is every one.
    pub host: String,
}

impl AclResource {
    /// What Kafka's tools call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Group => "group",
            Self::Cluster => "cluster",
            Self::TransactionalId => "transactional-id",
            Self::Unknown => "unknown",
        }
    }
}

impl AclPattern {
    /// What Kafka's tools call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Literal => "literal",
            Self::Prefixed => "prefixed",
            Self::Unknown => "unknown",
        }
    }
}

impl AclOperation {
    /// What Kafka's tools call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "All",
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Create => "Create",
            Self::Delete => "Delete",
            Self::Alter => "Alter",
            Self::Describe => "Describe",
            Self::ClusterAction => "ClusterAction",
            Self::DescribeConfigs => "DescribeConfigs",
            Self::AlterConfigs => "AlterConfigs",
            Self::IdempotentWrite => "IdempotentWrite",
            Self::Unknown => "Unknown",
        }
    }
}

impl AclEffect {
    fn name(self) -> &'static str {
        match self {
            Self::Allow => "may",
            Self::Deny => "may not",
            Self::Unknown => "may or may not",
        }
    }
}

impl fmt::Display for AclBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            principal,
            resource,
            pattern,
            name,
            operation,
            effect,
            host,
        } = self;
        let (effect, operation) = (effect.name(), operation.name());
        let (pattern, resource) = (pattern.name(), resource.name());
        write!(
            f,
            "{principal} {effect} {operation} {pattern} {resource} {name}"
        )?;
        match host.as_str() {
            "*" => Ok(()),
            host => write!(f, " from {host}"),
        }
    }
}
