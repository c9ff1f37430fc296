//! Which of the suspects are known to be published.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use envelope::dead_letter::known_by;

use crate::failure::Failure;

/// Suspects that are kept in memory, at about 40 bytes each.
const MOST: usize = 10_000_000;

/// What is known of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Its event was not found.
    Unpublished,
    /// Its event stands in its topic.
    Published,
    /// Its event stands in a dead-letter topic.
    DeadLettered,
}

/// Suspects and what has been found of them. Events are told apart by type and id: in two tables
/// different rows may have the same id.
#[derive(Debug, Default)]
pub(super) struct Proof(HashMap<u128, Status>);

impl Proof {
    /// Adds a suspect.
    pub fn suspect(&mut self, event_type: &str, id: &str) -> Result<(), Failure> {
        if self.0.len() >= MOST {
            let message = format!("more than {MOST} rows may be unpublished");
            return Err(Failure::new("repair-too-large", message));
        }
        let digest = Self::digest(event_type, id);
        self.0.insert(digest, Status::Unpublished);
        Ok(())
    }

    /// An event was found; whether it is one of a suspect.
    pub fn found(&mut self, event_type: &str, id: &str, is_dead_letter: bool) -> bool {
        let Some(status) = self.0.get_mut(&Self::digest(event_type, id)) else {
            return false;
        };
        // What was replayed from the dead letters stands in both.
        *status = match (is_dead_letter, *status) {
            (false, _) | (true, Status::Published) => Status::Published,
            (true, Status::Unpublished | Status::DeadLettered) => Status::DeadLettered,
        };
        true
    }

    /// What is known of a row; `None` if it was no suspect.
    pub fn status(&self, event_type: &str, id: &str) -> Option<Status> {
        self.0.get(&Self::digest(event_type, id)).copied()
    }

    /// A stub tells of a long id or type only what it is known by.
    fn digest(event_type: &str, id: &str) -> u128 {
        digest(&known_by(event_type), &known_by(id))
    }

    /// Whether nobody is suspected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any suspect was found.
    pub fn has_found(&self) -> bool {
        self.0.values().any(|status| *status != Status::Unpublished)
    }
}

/// Of two texts.
pub(super) fn digest(first: &str, second: &str) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, first, second).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_found_anywhere_is_not_published_again() {
        let mut proof = Proof::default();
        for id in ["1", "2", "3", "4"] {
            proof.suspect("a", id).unwrap();
        }
        assert!(proof.found("a", "2", false));
        assert!(proof.found("a", "3", true));
        assert!(proof.found("a", "4", true) && proof.found("a", "4", false));
        assert!(proof.found("a", "4", true));
        assert!(!proof.found("b", "1", false), "another table's row");
        let status = |id| proof.status("a", id).unwrap();
        assert_eq!(status("1"), Status::Unpublished);
        assert_eq!(status("2"), Status::Published);
        assert_eq!(status("3"), Status::DeadLettered);
        assert_eq!(status("4"), Status::Published);
        assert_eq!(proof.status("a", "5"), None);
        let long = "x".repeat(5_000);
        proof.suspect(&long, &long).unwrap();
        assert!(
            proof.found(&known_by(&long), &known_by(&long), true),
            "a stub"
        );
        assert_eq!(proof.status(&long, &long), Some(Status::DeadLettered));
    }

    #[test]
    fn texts_do_not_run_into_each_other() {
        assert_ne!(digest("a", "bc"), digest("ab", "c"));
        assert_eq!(digest("a", "b"), digest("a", "b"));
    }
}
