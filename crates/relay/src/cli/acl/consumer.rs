//! A consumer as it is named on the command line.

use std::str::FromStr;

/// `GROUP=PRINCIPAL:PREFIX`: who reads which topics, as which group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Consumer {
    pub group: String,
    /// With its type, such as `User:books`.
    pub principal: String,
    /// The beginning of the topics' names.
    pub prefix: String,
}

impl FromStr for Consumer {
    type Err = String;

    /// A principal may hold `=` and `:` itself, a group no `=` and a prefix no `:`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(group, rest)| {
            let (principal, prefix) = rest.rsplit_once(':')?;
            Some((group, principal, prefix))
        });
        let Some((group, principal, prefix)) = parts else {
            return Err("write GROUP=User:NAME:PREFIX, such as books=User:books:transfers.".into());
        };
        if !is_principal(principal) || group.is_empty() || group == "*" {
            return Err(format!(
                "{principal:?} is no principal, or {group:?} no group: write GROUP=User:NAME:PREFIX"
            ));
        }
        let is_topic_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if prefix.is_empty() || !prefix.bytes().all(is_topic_byte) {
            return Err(format!(
                "{prefix:?} is not the beginning of a topic's name; the prefix is a name without *"
            ));
        }
        Ok(Self {
            group: group.into(),
            principal: principal.into(),
            prefix: prefix.into(),
        })
    }
}

/// Whether it has a type and a name, and is not everybody.
fn is_principal(text: &str) -> bool {
    text.split_once(':')
        .is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty() && name != "*")
}

/// A principal as a flag has it.
///
/// # Errors
/// What to write.
pub(super) fn principal(text: &str) -> Result<String, String> {
    match is_principal(text) {
        true => Ok(text.to_owned()),
        false => Err("write its type and its name, such as User:outboxd".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn principals_may_be_distinguished_names() {
        let consumer: Consumer = "books=User:CN=books,O=bank:transfers.".parse().unwrap();
        assert_eq!(consumer.group, "books");
        assert_eq!(consumer.principal, "User:CN=books,O=bank");
        assert_eq!(consumer.prefix, "transfers.");
    }

    #[test]
    fn what_is_missing_is_said() {
        for wrong in [
            "books",
            "books=transfers.",
            "=User:books:transfers.",
            "books=User:books:",
            "books=User:books:transfers.*",
            "books=User:*:transfers.",
            "books=:transfers.",
        ] {
            assert!(wrong.parse::<Consumer>().is_err(), "{wrong}");
        }
        assert!(principal("outboxd").is_err());
        assert!(principal("User:outboxd").is_ok());
    }
}
