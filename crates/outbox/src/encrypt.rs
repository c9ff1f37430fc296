//! What is encrypted, by event type.

use std::{fmt, sync::Arc};

use ::event::encryption::{FieldPath, FieldPathError, KeyStore, Scope, Subject, seal};
use envelope::{TopicPattern, TopicPatternError};
use serde_json::value::RawValue;

use crate::{Event, Refusal};

/// Which event types are encrypted, and which fields of them. What no rule names is not encrypted;
/// where several do, all of them count.
#[derive(Clone, Debug, Default)]
pub struct EncryptionPolicy {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    types: TopicPattern,
    /// None for the whole payload.
    fields: Option<Vec<FieldPath>>,
}

/// A rule that names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The types.
    #[error("no event type can match")]
    Types(#[from] TopicPatternError),
    /// A field.
    #[error("a field can't be encrypted")]
    Field(#[from] FieldPathError),
    /// No field, or one that is a part of another one.
    #[error("the fields of {types:?} are none, or one is a part of another one")]
    Fields {
        /// The pattern of types.
        types: String,
    },
}

impl EncryptionPolicy {
    /// Nothing is encrypted.
    pub fn new() -> Self {
        Self::default()
    }

    /// The whole payload of events whose type matches, where `*` stands for any run of characters.
    ///
    /// # Errors
    /// No type can match.
    pub fn payload(mut self, types: &str) -> Result<Self, PolicyError> {
        self.rules.push(Rule {
            types: types.parse()?,
            fields: None,
        });
        Ok(self)
    }

    /// Fields of the payload, such as `payload.customer.name`, of events whose type matches. A field
    /// that is missing is an error, unless it ends in `?` ([`FieldPath`]).
    ///
    /// # Errors
    /// No type can match, or the fields are no fields, none, or overlap.
    pub fn fields<'a>(
        mut self,
        types: &str,
        fields: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, PolicyError> {
        let fields = fields.into_iter().map(str::parse::<FieldPath>);
        let fields: Vec<_> = fields.collect::<Result<_, _>>()?;
        if Scope::fields(fields.clone()).is_err() {
            return Err(PolicyError::Fields {
                types: types.into(),
            });
        }
        self.rules.push(Rule {
            types: types.parse()?,
            fields: Some(fields),
        });
        Ok(self)
    }

    /// What is encrypted of an event of that type. Where fields of several rules overlap, the whole
    /// payload is: rather too much than too little.
    fn scope(&self, event_type: &str) -> Option<Scope> {
        let mut union: Vec<FieldPath> = Vec::new();
        let is_meant = |rule: &&Rule| rule.types.matches(event_type);
        for rule in self.rules.iter().filter(is_meant) {
            let Some(fields) = &rule.fields else {
                return Some(Scope::Payload);
            };
            let new: Vec<_> = fields
                .iter()
                .filter(|field| !union.contains(field))
                .collect();
            union.extend(new.into_iter().cloned());
        }
        match union.is_empty() {
            true => None,
            false => Some(Scope::fields(union).unwrap_or(Scope::Payload)),
        }
    }
}

/// A policy and the keys that it is carried out with. `Debug` does not show keys.
#[derive(Clone)]
pub(crate) struct Encryption {
    policy: EncryptionPolicy,
    keys: Arc<dyn KeyStore>,
}

impl Encryption {
    pub fn new(policy: EncryptionPolicy, keys: impl KeyStore + 'static) -> Self {
        Self {
            policy,
            keys: Arc::new(keys),
        }
    }

    /// What is written in the place of the payload; the headers that say so are added.
    pub async fn apply(
        &self,
        event: &mut Event,
        payload: Box<RawValue>,
    ) -> Result<Box<RawValue>, Refusal> {
        let Some(scope) = self.policy.scope(&event.event_type) else {
            return Ok(payload);
        };
        let event_id = event.id.to_string();
        let subject = Subject {
            event_id: &event_id,
            event_type: &event.event_type,
        };
        let sealed = seal(self.keys.as_ref(), subject, &scope, &payload).await;
        match sealed.map_err(Refusal::Encryption)? {
            None => Ok(payload),
            Some(sealed) => {
                for (name, value) in sealed.scope.headers() {
                    event.set_header(name.into(), value);
                }
                Ok(sealed.payload)
            }
        }
    }
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn fields(paths: &[&str]) -> Option<Scope> {
        let fields = paths.iter().map(|path| path.parse().unwrap());
        Some(Scope::fields(fields.collect()).unwrap())
    }

    #[test]
    fn all_rules_that_match_count() {
        let policy = EncryptionPolicy::new()
            .fields("transfers.*", ["payload.a", "payload.b?"])
            .and_then(|policy| policy.fields("*.settled", ["payload.a", "payload.c"]))
            .and_then(|policy| policy.payload("compliance.*"))
            .unwrap();
        assert_eq!(policy.scope("ledger.posted"), None);
        assert_eq!(
            policy.scope("transfers.failed"),
            fields(&["payload.a", "payload.b?"])
        );
        let all = fields(&["payload.a", "payload.b?", "payload.c"]);
        assert_eq!(policy.scope("transfers.settled"), all);
        assert_eq!(policy.scope("compliance.settled"), Some(Scope::Payload));
    }

    #[test]
    fn fields_of_two_rules_that_overlap_encrypt_everything() {
        let policy = EncryptionPolicy::new()
            .fields("*", ["payload.customer"])
            .and_then(|policy| policy.fields("a", ["payload.customer.name"]))
            .unwrap();
        assert_eq!(policy.scope("a"), Some(Scope::Payload));
        assert_eq!(policy.scope("b"), fields(&["payload.customer"]));
    }

    #[test]
    fn rules_that_name_nothing_are_refused() {
        let new = EncryptionPolicy::new;
        assert!(matches!(new().payload("a b"), Err(PolicyError::Types(_))));
        assert!(matches!(
            new().fields("a", ["b"]),
            Err(PolicyError::Field(_))
        ));
        assert!(matches!(
            new().fields("a", []),
            Err(PolicyError::Fields { .. })
        ));
        let overlap = ["payload.a", "payload.a.b"];
        assert!(matches!(
            new().fields("a", overlap),
            Err(PolicyError::Fields { .. })
        ));
    }
}
