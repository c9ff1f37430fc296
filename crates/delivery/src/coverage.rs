//! Which publication and tables the stream covers, and whether that has been so all the time.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A digest that is stable over releases and machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// FNV-1a over the text, unlike the standard hasher the same everywhere.
    pub fn of(description: &str) -> Self {
        let digest = description
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Self(digest)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
        let value = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        value.map(Self).ok_or(NoFingerprint)
    }
}

/// The text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token is {DIGITS} hexadecimal digits, as the error shows them")]
pub struct NoFingerprint;

/// As it is written.
const DIGITS: usize = 16;

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The publication and the configured tables in it, each in one definition.
///
/// pgoutput asks for the publication as of each change, and passes over what it did not cover then
/// (from PostgreSQL 18 on even where it did not exist, with a mere warning). A definition that was
/// replaced and put back leaves such a hole, though it looks the same; so a fingerprint is that of
/// the catalog rows and not of what they say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Of the publication.
    pub publication: Option<Fingerprint>,
    /// Of each configured table's membership, by its qualified name.
    pub tables: BTreeMap<String, Fingerprint>,
}

impl Coverage {
    /// What is not as `before` any more. A table that `before` does not know is a new one of the
    /// configuration.
    pub fn change_since(&self, before: &Self) -> Option<String> {
        if self.publication != before.publication {
            return Some("the publication was altered, or dropped and made again".into());
        }
        let changed = self.tables.iter().find(|(name, now)| {
            before
                .tables
                .get(*name)
                .is_some_and(|recorded| recorded != *now)
        });
        changed.map(|(name, _)| {
            format!("table {name} was made again, or taken out of the publication and put back")
        })
    }

    /// Names this coverage in an operator's consent.
    pub fn token(&self) -> Fingerprint {
        Fingerprint::of(&format!("{:?} {:?}", self.publication, self.tables))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(publication: &str, tables: &[(&str, &str)]) -> Coverage {
        let table = |(name, text): &(&str, &str)| ((*name).to_owned(), Fingerprint::of(text));
        Coverage {
            publication: Some(Fingerprint::of(publication)),
            tables: tables.iter().map(table).collect(),
        }
    }

    #[test]
    fn a_publication_or_table_that_was_replaced_is_a_change() {
        let before = coverage("p", &[("a", "1"), ("b", "1")]);
        let changed = |now: Coverage| now.change_since(&before).is_some();
        assert!(!changed(before.clone()));
        assert!(changed(coverage("q", &[("a", "1"), ("b", "1")])));
        assert!(changed(coverage("p", &[("a", "1"), ("b", "2")])));
    }

    #[test]
    fn a_table_that_is_configured_now_or_not_any_more_is_none() {
        let before = coverage("p", &[("a", "1")]);
        let more = coverage("p", &[("a", "1"), ("b", "1")]);
        assert_eq!(more.change_since(&before), None);
        assert_eq!(before.change_since(&more), None);
    }

    #[test]
    fn each_coverage_has_its_own_token() {
        let token = |publication, table| coverage(publication, &[("a", table)]).token();
        assert_eq!(token("p", "1"), token("p", "1"));
        assert_ne!(token("p", "1"), token("p", "2"));
        assert_ne!(token("p", "1"), token("q", "1"));
    }

    #[test]
    fn a_fingerprint_reads_what_it_writes() {
        let fingerprint = Fingerprint::of("x");
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        for text in ["", "a", "xyz", "+123456789abcdef"] {
            assert_eq!(text.parse::<Fingerprint>(), Err(NoFingerprint), "{text}");
        }
    }
}
