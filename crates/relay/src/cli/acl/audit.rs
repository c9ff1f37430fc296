//! The bindings that there are against those that there should be.

use std::collections::BTreeSet;

use producer::{AclBinding, AclEffect, AclOperation, AclResource};

use super::pattern::{EVERYBODY, covers, overlap};

/// What should be.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// The relay's principal, which must have nothing else.
    pub relay: String,
    pub bindings: BTreeSet<AclBinding>,
    /// Where nobody else may write, alter or delete; only resources and names count.
    pub guarded: Vec<AclBinding>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nobody has allowed it.
    Missing(AclBinding),
    /// It is forbidden, whatever allows it.
    Denied { wanted: AclBinding, by: AclBinding },
    /// It allows more than there should be.
    Wider {
        binding: AclBinding,
        why: &'static str,
    },
}

/// Compares. What is needed comes first, then what is too much.
pub(super) fn compare(wanted: &Wanted, found: &[AclBinding]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for binding in &wanted.bindings {
        let reaches = |f: &&AclBinding| is_for(f, binding) && overlap(f, binding);
        let denial = found
            .iter()
            .filter(reaches)
            .find(|f| f.effect == AclEffect::Deny && hits(f, binding));
        let is_allowed = found
            .iter()
            .any(|f| f.effect == AclEffect::Allow && is_for(f, binding) && covers(f, binding));
        match denial {
            Some(denial) => findings.push(Finding::Denied {
                wanted: binding.clone(),
                by: denial.clone(),
            }),
            None if !is_allowed => findings.push(Finding::Missing(binding.clone())),
            None => {}
        }
    }
    for binding in found.iter().filter(|f| f.effect == AclEffect::Allow) {
        if let Some(why) = excess(wanted, binding) {
            let binding = binding.clone();
            findings.push(Finding::Wider { binding, why });
        }
    }
    findings
}

fn is_for(found: &AclBinding, wanted: &AclBinding) -> bool {
    found.principal == wanted.principal || found.principal == EVERYBODY
}

/// Whether forbidding the one forbids the other: what describes is needed by all that reads or writes.
fn hits(denial: &AclBinding, wanted: &AclBinding) -> bool {
    let operation = denial.operation;
    operation == wanted.operation || matches!(operation, AclOperation::All | AclOperation::Describe)
}

/// Why a binding is more than there should be.
fn excess(wanted: &Wanted, found: &AclBinding) -> Option<&'static str> {
    let is_part = |w: &AclBinding| w.principal == found.principal && covers(w, found);
    if wanted.bindings.iter().any(is_part) {
        return None;
    }
    let touches = wanted.guarded.iter().any(|guarded| overlap(found, guarded));
    if found.principal == EVERYBODY {
        let is_open = touches || found.resource == AclResource::Cluster;
        return is_open.then_some("it is for everybody");
    }
    let is_consumer = wanted
        .bindings
        .iter()
        .any(|w| w.principal == found.principal);
    if found.principal == wanted.relay || is_consumer && touches {
        return (!is_harmless(found)).then_some("the principal does not need it");
    }
    if !touches {
        return None;
    }
    use AclOperation::{
        All, Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs,
        IdempotentWrite, Read, Unknown, Write,
    };
    match (found.resource, found.operation) {
        (AclResource::TransactionalId, All | Write) => Some("it can fence the relay"),
        (_, All) => Some("it allows everything"),
        (_, Write) => Some("only the relay may write there"),
        (_, Delete | Alter | AlterConfigs) => {
            Some("it can alter or delete what the relay has written")
        }
        (
            _,
            Create | Describe | DescribeConfigs | Read | ClusterAction | IdempotentWrite | Unknown,
        ) => None,
    }
}

/// Brokers before 3.0 ask an idempotent producer for it; newer ones take it for granted.
fn is_harmless(found: &AclBinding) -> bool {
    found.resource == AclResource::Cluster && found.operation == AclOperation::IdempotentWrite
}

#[cfg(test)]
mod tests {
    use producer::AclPattern;

    use super::*;

    /// `principal operation resource name`, where a name that ends with `*` is a prefix.
    fn binding(text: &str) -> AclBinding {
        let words: Vec<&str> = text.split(' ').collect();
        let [principal, operation, resource, name] = words[..] else {
            panic!("{text}");
        };
        let operation = match operation {
            "All" => AclOperation::All,
            "Read" => AclOperation::Read,
            "Write" => AclOperation::Write,
            "Describe" => AclOperation::Describe,
            "Delete" => AclOperation::Delete,
            "IdempotentWrite" => AclOperation::IdempotentWrite,
            other => panic!("{other}"),
        };
        let resource = match resource {
            "topic" => AclResource::Topic,
            "id" => AclResource::TransactionalId,
            "group" => AclResource::Group,
            "cluster" => AclResource::Cluster,
            other => panic!("{other}"),
        };
        let (pattern, name) = match name.strip_suffix('*') {
            Some(prefix) if !prefix.is_empty() => (AclPattern::Prefixed, prefix),
            Some(_) | None => (AclPattern::Literal, name),
        };
        AclBinding {
            principal: format!("User:{principal}"),
            resource,
            pattern,
            name: name.into(),
            operation,
            effect: AclEffect::Allow,
            host: "*".into(),
        }
    }

    fn denying(text: &str) -> AclBinding {
        AclBinding {
            effect: AclEffect::Deny,
            ..binding(text)
        }
    }

    const NEEDED: [&str; 3] = [
        "relay Write topic transfers.*",
        "relay Read topic checkpoint",
        "relay Write id relay.*",
    ];

    /// What is found beside all that is needed.
    fn beside(found: AclBinding) -> Vec<Finding> {
        let guarded = [
            "x All topic transfers.*",
            "x All topic checkpoint",
            "x All id relay.*",
        ];
        let mut bindings: BTreeSet<_> = NEEDED.iter().map(|text| binding(text)).collect();
        bindings.insert(binding("books Read topic transfers.*"));
        let wanted = Wanted {
            relay: "User:relay".into(),
            bindings,
            guarded: guarded.iter().map(|text| binding(text)).collect(),
        };
        let mut all: Vec<_> = NEEDED.iter().map(|text| binding(text)).collect();
        all.push(binding("books Read topic transfers.*"));
        all.push(found);
        compare(&wanted, &all)
    }

    #[test]
    fn what_goes_beyond_is_found() {
        for wide in [
            "relay Write topic transf*",
            "relay Write topic *",
            "relay All topic transfers.*",
            "relay Delete topic transfers.a",
            "relay Read group g",
            "books Read topic *",
            "books Write topic transfers.paid",
            "other Write topic transfers.paid",
            "other Write topic t*",
            "other Write topic *",
            "other All topic checkpoint",
            "other Delete topic checkpoint",
            "other Write id relay.0",
            "other Write id *",
            "other All id relay.*",
            "* Read topic transfers.*",
            "* Describe topic *",
            "* All cluster kafka-cluster",
        ] {
            let findings = beside(binding(wide));
            let is_wider =
                matches!(&findings[..], [Finding::Wider { binding: b, .. }] if *b == binding(wide));
            assert!(is_wider, "{wide}: {findings:?}");
        }
    }

    #[test]
    fn what_is_nobodys_business_is_not() {
        for fine in [
            // Parts of what it has.
            "relay Write topic transfers.paid",
            "relay Describe topic transfers.*",
            "relay Describe topic checkpoint",
            "relay IdempotentWrite cluster kafka-cluster",
            // Readers, and others' topics.
            "other Read topic transfers.*",
            "other Write topic elsewhere",
            "other Write topic transfer",
            "other Write id relayed.0",
            "other All group g",
            "books Read topic elsewhere",
            "* Read topic elsewhere.*",
        ] {
            assert_eq!(beside(binding(fine)), [], "{fine}");
        }
    }

    #[test]
    fn what_is_needed_may_be_missing_or_forbidden() {
        let wanted = Wanted {
            relay: "User:relay".into(),
            bindings: NEEDED.iter().map(|text| binding(text)).collect(),
            guarded: Vec::new(),
        };
        let missing = |found: &[AclBinding]| {
            let findings = compare(&wanted, found).into_iter();
            let missing = findings.filter(|f| matches!(f, Finding::Missing(_)));
            missing.count()
        };
        assert_eq!(missing(&[]), 3);
        assert_eq!(missing(&[binding("* Write topic *")]), 2);
        assert_eq!(missing(&[binding("other Write topic *")]), 3);
        // Part of the topics is not all of them.
        assert_eq!(missing(&[binding("relay Write topic transfers.paid")]), 3);
        let mut elsewhere = binding("relay Read topic checkpoint");
        elsewhere.host = "10.0.0.1".into();
        assert_eq!(missing(&[elsewhere]), 3);

        for denial in [
            "relay Write topic transfers.paid",
            "* All topic transfers.paid",
            "relay Describe topic *",
        ] {
            let findings = beside(denying(denial));
            let is_denied =
                |f: &Finding| matches!(f, Finding::Denied { by, .. } if *by == denying(denial));
            assert!(findings.iter().any(is_denied), "{denial}: {findings:?}");
        }
        assert_eq!(beside(denying("other Write topic transfers.*")), []);
        assert_eq!(beside(denying("relay Read topic transfers.*")), []);
    }
}
