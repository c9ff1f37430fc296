//! What later sessions must know of events that were not published, beside the checkpoint.
//!
//! These records stand in a partition of their own in the checkpoint topic: there are few of them,
//! so that a start reads all, and compaction keeps the newest of each key.

use std::collections::HashSet;

use envelope::dead_letter::hex;
use pgoutput::{CommitLsn, Lsn, Position};
use serde::{Deserialize, Serialize};

use crate::RecordKey;
use crate::record_key::Name;

/// One such fact, made durable together with the events that it follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exception {
    /// The events of a key go to the dead letters.
    Parked(ParkedKey),
    /// They no longer do.
    Released {
        /// The service.
        service: String,
        /// The record key.
        key: RecordKey,
    },
    /// The event at a position is in the dead-letter topic. Its row may not say so yet.
    Dead(DeadRow),
    /// The row does.
    Settled(Position),
    /// An event was published from its dead letter. Its row may not say so yet.
    Revived(RevivedRow),
    /// The row does.
    Told(RevivedRow),
}

/// A key whose events go to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedKey {
    /// The service.
    pub service: String,
    /// The record key.
    pub key: RecordKey,
    /// The request that was to release it, when an event of it proved to be dead still.
    pub request: Option<String>,
}

/// The row of an event that was published from its dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevivedRow {
    /// The service.
    pub service: String,
    /// Schema and table.
    pub table: String,
    /// Its id.
    pub id: String,
}

/// The row of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadRow {
    /// Where it was inserted.
    pub position: Position,
    /// How often publishing was tried.
    pub attempts: u32,
    /// Why it is dead.
    pub reason: String,
}

/// The record's value; a record without value takes back what was said before.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Value {
    Parked {
        service: String,
        key: StoredKey,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<String>,
    },
    Revived(RevivedRow),
    Dead {
        commit_lsn: CommitLsn,
        index: u64,
        attempts: u32,
        reason: String,
    },
}

/// A key in a record's value.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredKey {
    Whole(Vec<u8>),
    Digest { sha256: String },
}

impl StoredKey {
    fn of(key: &RecordKey) -> Self {
        match key.name() {
            Name::Whole(key) => Self::Whole(key.clone()),
            Name::Digest(digest) => Self::Digest {
                sha256: hex(digest),
            },
        }
    }

    fn read(self) -> Option<RecordKey> {
        match self {
            Self::Whole(key) => Some(key.into()),
            Self::Digest { sha256 } => RecordKey::from_sha256(&sha256).ok(),
        }
    }
}

impl Exception {
    /// The record's key.
    pub fn key(&self) -> Vec<u8> {
        match self {
            Self::Parked(ParkedKey { service, key, .. }) | Self::Released { service, key } => {
                let service = part(service);
                match key.name() {
                    Name::Whole(key) => [b"parked/", service.as_bytes(), b"/", key].concat(),
                    Name::Digest(digest) => {
                        format!("parked-sha256/{service}/{}", hex(digest)).into_bytes()
                    }
                }
            }
            Self::Dead(DeadRow { position, .. }) | Self::Settled(position) => {
                format!("dead/{position}").into_bytes()
            }
            Self::Revived(row) | Self::Told(row) => {
                let (service, table) = (part(&row.service), part(&row.table));
                format!("revived/{service}/{table}/{}", row.id).into_bytes()
            }
        }
    }

    fn is_taken_back(&self) -> bool {
        match self {
            Self::Parked(_) | Self::Dead(_) | Self::Revived(_) => false,
            Self::Released { .. } | Self::Settled(_) | Self::Told(_) => true,
        }
    }

    /// The record's value.
    pub fn value(&self) -> Option<Vec<u8>> {
        let value = match self {
            Self::Parked(parked) => Value::Parked {
                service: parked.service.clone(),
                key: StoredKey::of(&parked.key),
                request: parked.request.clone(),
            },
            Self::Revived(row) => Value::Revived(row.clone()),
            Self::Dead(row) => Value::Dead {
                commit_lsn: row.position.commit_lsn,
                index: row.position.index,
                attempts: row.attempts,
                reason: row.reason.clone(),
            },
            Self::Released { .. } | Self::Settled(_) | Self::Told(_) => return None,
        };
        Some(serde_json::to_vec(&value).expect("an exception holds nothing that JSON can't"))
    }
}

/// Part of a record key that a slash ends.
fn part(text: &str) -> String {
    text.replace('%', "%25").replace('/', "%2F")
}

/// What holds of all exceptions recorded so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exceptions {
    /// The parked keys.
    pub parked: Vec<ParkedKey>,
    /// Dead letters whose rows may not say so yet.
    pub dead: Vec<DeadRow>,
    /// Published dead letters whose rows may not say so yet.
    pub revived: Vec<RevivedRow>,
}

impl Exceptions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.parked.len() + self.dead.len() + self.revived.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the newest value of a key; `false` if it can't be understood.
    pub fn take(&mut self, value: &[u8]) -> bool {
        match serde_json::from_slice(value) {
            Ok(Value::Parked {
                service,
                key,
                request,
            }) => {
                let Some(key) = key.read() else {
                    return false;
                };
                self.parked.push(ParkedKey {
                    service,
                    key,
                    request,
                });
            }
            Ok(Value::Revived(row)) => self.revived.push(row),
            Ok(Value::Dead {
                commit_lsn,
                index,
                attempts,
                reason,
            }) => self.dead.push(DeadRow {
                position: Position { commit_lsn, index },
                attempts,
                reason,
            }),
            Err(_) => return false,
        }
        true
    }
}

/// The keys of exceptions that hold once everything handed out is durable.
#[derive(Debug, Default)]
pub(crate) struct Held(HashSet<Vec<u8>>);

impl Held {
    /// What earlier sessions have recorded.
    pub fn of(exceptions: &Exceptions) -> Self {
        let parked = exceptions.parked.iter().cloned().map(Exception::Parked);
        let dead = exceptions.dead.iter().cloned().map(Exception::Dead);
        let revived = exceptions.revived.iter().cloned().map(Exception::Revived);
        let all = parked.chain(dead).chain(revived);
        Self(all.map(|exception| exception.key()).collect())
    }

    /// These are recorded next.
    pub fn note(&mut self, exceptions: &[Exception]) {
        for exception in exceptions {
            let key = exception.key();
            match exception.is_taken_back() {
                true => self.0.remove(&key),
                false => self.0.insert(key),
            };
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// The lowest position of a transaction.
pub(crate) fn first_position(lsn: Lsn) -> Position {
    Position {
        commit_lsn: CommitLsn(lsn),
        index: 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_and_taken_back_under_the_same_key() {
        let key = ParkedKey {
            service: "bank".into(),
            key: b"\xff\x00".into(),
            request: Some("r1".into()),
        };
        let parked = Exception::Parked(key.clone());
        let released = Exception::Released {
            service: "bank".into(),
            key: b"\xff\x00".into(),
        };
        let row = DeadRow {
            position: first_position(Lsn::from(7)),
            attempts: 6,
            reason: "r".into(),
        };
        let dead = Exception::Dead(row.clone());
        assert_eq!(parked.key(), released.key());
        assert_eq!(dead.key(), Exception::Settled(row.position).key());
        assert_eq!(released.value(), None);
        let mut found = Exceptions::default();
        assert!(found.take(&parked.value().unwrap()) && found.take(&dead.value().unwrap()));
        assert!(!found.take(b"{}"));
        assert_eq!(found.parked, [key]);
        assert_eq!(found.dead, [row]);
    }

    #[test]
    fn facts_of_different_keys_and_rows_have_different_record_keys() {
        let parked = |service: &str, key: &str| {
            let key = ParkedKey {
                service: service.into(),
                key: key.into(),
                request: None,
            };
            Exception::Parked(key).key()
        };
        let revived = |service: &str, table: &str, id: &str| {
            let row = RevivedRow {
                service: service.into(),
                table: table.into(),
                id: id.into(),
            };
            Exception::Revived(row).key()
        };
        assert_ne!(parked("a/b", "c"), parked("a", "b/c"));
        assert_ne!(parked("a/b", "c"), parked("a%2Fb", "c"));
        assert_ne!(revived("a/b", "c", "1"), revived("a", "b/c", "1"));
        assert_ne!(revived("a", "b/c", "1"), revived("a", "b", "c/1"));
        assert_eq!(parked("bank", "k/1%"), b"parked/bank/k/1%");
    }

    #[test]
    fn a_long_key_is_recorded_by_its_digest_however_long_it_is() {
        let long = vec![b'k'; 3_000_000];
        let parked = |key: &[u8]| ParkedKey {
            service: "bank".into(),
            key: key.into(),
            request: None,
        };
        let (key, service) = (parked(&long), "bank".to_owned());
        let exception = Exception::Parked(key.clone());
        let (name, value) = (exception.key(), exception.value().unwrap());
        assert!(name.len() + value.len() < 1_000);
        let released = Exception::Released {
            service,
            key: key.key.clone(),
        };
        assert_eq!(released.key(), name);
        let mut found = Exceptions::default();
        assert!(found.take(&value));
        assert_eq!(found.parked, [key]);
        // A key that is called like the digest is another one.
        let digest = found.parked[0].key.shown().sha256.unwrap();
        assert_ne!(Exception::Parked(parked(digest.as_bytes())).key(), name);
        assert_ne!(Exception::Parked(parked(&name)).key(), name);
    }

    #[test]
    fn a_revived_row_is_read_until_it_was_told() {
        let row = RevivedRow {
            service: "bank".into(),
            table: "public.outbox".into(),
            id: "7".into(),
        };
        let revived = Exception::Revived(row.clone());
        let mut found = Exceptions::default();
        assert!(found.take(&revived.value().unwrap()));
        assert_eq!(found.revived, std::slice::from_ref(&row));
        let told = Exception::Told(row);
        assert_eq!((told.key(), told.value()), (revived.key(), None));
    }
}
