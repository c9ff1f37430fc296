//! The checkpoint record: what the relay has made durable in Kafka.

use std::collections::BTreeSet;

use pgoutput::{CommitLsn, Lsn};
use serde::{Deserialize, Serialize};

use crate::{Coverage, FeedProgress, Fingerprint};

/// The version of the record that this relay writes, and the newest that it reads.
pub const CHECKPOINT_FORMAT: u32 = 1;

/// Which database and slot a checkpoint speaks of. LSNs of two identities can't be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `system_identifier` of the cluster.
    pub system_identifier: String,
    /// The server's timeline.
    pub timeline: u32,
    /// Database name.
    pub database: String,
    /// Replication slot name.
    pub slot: String,
}

/// How far one source transaction has been published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionPosition {
    /// Start of the commit record.
    pub commit_lsn: CommitLsn,
    /// Transaction id; with the commit time it tells this transaction from another one that
    /// reuses its LSN after a restore.
    pub xid: u32,
    /// Commit time, microseconds since 1970-01-01 UTC.
    pub commit_time_us: i64,
    /// Changes dealt with, counted in arrival order before any filter.
    pub index: u64,
    /// Whether the transaction's commit has been seen, so that nothing of it is left.
    pub complete: bool,
}

/// Why the record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Before the slot is created: a slot found later is ours.
    Intent,
    /// The slot exists; nothing has been published.
    Genesis,
    /// Progress of the stream.
    Progress,
    /// A repair is under way, which drops the slot and makes another. The rest of the record is what
    /// it began with.
    Repair,
}

/// The record's value, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// [`CHECKPOINT_FORMAT`] of the relay that wrote it.
    pub format: u32,
    /// Why it was written.
    pub kind: Kind,
    /// Database and slot.
    #[serde(flatten)]
    pub identity: Identity,
    /// The last transaction published, wholly or in part.
    pub position: Option<TransactionPosition>,
    /// Without a position: everything that commits below is published, for a position from there on
    /// was voided by a promotion. 0/0: nothing ever was.
    #[serde(default)]
    pub floor: Lsn,
    /// The slot may be confirmed up to here, and is never confirmed beyond it.
    pub confirmed_up_to: Lsn,
    /// Dead letters of transactions that commit below are not remembered any more, for the slot was
    /// confirmed beyond. A promoted or restored server may have an older slot, and send their rows again.
    #[serde(default)]
    pub settled_below: Lsn,
    /// A feed is under way, which goes on before the stream does. In an intent: the slot is to be made
    /// together with this feed, so without its genesis it is of no use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<FeedProgress>,
    /// Of what decides the number and order of changes inside a transaction, and so the meaning of
    /// `position.index`: the publication, its tables and row filters, protocol options.
    pub fingerprint: Fingerprint,
    /// What the stream covered when the record was written; none in records of older relays.
    #[serde(default)]
    pub coverage: Option<Coverage>,
    /// Tables whose every row is published if it was committed below `confirmed_up_to`: when the slot
    /// was made they were empty, or the feed before its stream took what was not published. What is
    /// not named here, as in records of older relays, may hold rows from before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub whole_tables: BTreeSet<String>,
    /// How many exceptions hold beside it; none in records that do not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exceptions: Option<usize>,
    /// How many transactional ids the writer used: all of them must be fenced.
    pub producers: usize,
    /// What these ids begin with; none in records of older relays.
    #[serde(default)]
    pub transactional_id_prefix: Option<String>,
    /// Version of the relay that wrote it.
    pub relay_version: String,
}

/// A checkpoint record can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not a checkpoint record.
    #[error("not a checkpoint record")]
    Malformed(#[from] serde_json::Error),
    /// Written by a newer relay.
    #[error("checkpoint format {found} is newer than this relay reads ({CHECKPOINT_FORMAT})")]
    Newer {
        /// The record's format.
        found: u64,
    },
}

impl Checkpoint {
    /// The record's value.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a checkpoint holds nothing that JSON can't")
    }

    /// Reads a record's value.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        let Version { format: found } = serde_json::from_slice(bytes)?;
        if found > u64::from(CHECKPOINT_FORMAT) {
            return Err(CheckpointError::Newer { found });
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            format: CHECKPOINT_FORMAT,
            kind: Kind::Progress,
            identity: Identity {
                system_identifier: "7".into(),
                timeline: 1,
                database: "app".into(),
                slot: "outboxd".into(),
            },
            position: Some(TransactionPosition {
                commit_lsn: CommitLsn(Lsn::from(0x16_B374_8000)),
                xid: 7,
                commit_time_us: 1_700_000_000_000_000,
                index: 3,
                complete: false,
            }),
            floor: Lsn::INVALID,
            confirmed_up_to: Lsn::from(0x10),
            settled_below: Lsn::from(0xf),
            feed: Some(FeedProgress {
                request: "r".into(),
                rows: 9,
                fed: crate::Fed {
                    done: 5,
                    ..crate::Fed::default()
                },
            }),
            fingerprint: Fingerprint::of("publication"),
            coverage: Some(Coverage {
                publication: Some(Fingerprint::of("oid")),
                tables: [("public.outbox".to_owned(), Fingerprint::of("oid"))].into(),
            }),
            whole_tables: ["public.outbox".to_owned()].into(),
            exceptions: Some(3),
            producers: 2,
            transactional_id_prefix: Some("outboxd".into()),
            relay_version: "0.1.0".into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let written = checkpoint();
        assert_eq!(Checkpoint::decode(&written.encode()).unwrap(), written);
    }

    #[test]
    fn a_record_of_an_older_relay_says_nothing_of_the_coverage() {
        let mut value = serde_json::to_value(checkpoint()).unwrap();
        for later in ["coverage", "whole_tables", "settled_below"] {
            value.as_object_mut().unwrap().remove(later).unwrap();
        }
        let read = Checkpoint::decode(value.to_string().as_bytes()).unwrap();
        assert_eq!(read.coverage, None);
        assert!(read.whole_tables.is_empty());
        assert_eq!(read.settled_below, Lsn::INVALID);
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let newer = br#"{"format": 99, "kind": "something new"}"#;
        assert!(matches!(
            Checkpoint::decode(newer),
            Err(CheckpointError::Newer { found: 99 })
        ));
    }

    #[test]
    fn garbage_is_refused() {
        assert!(matches!(
            Checkpoint::decode(b"{"),
            Err(CheckpointError::Malformed(_))
        ));
    }
}
