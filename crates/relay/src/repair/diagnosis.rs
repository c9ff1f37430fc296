//! What is wrong, and since when.

use delivery::{Checkpoint, Consent, FeedProgress, Kind, ServerFacts, check_start};
use pgoutput::Lsn;
use serde::Serialize;

use super::survey::Ways;
use crate::failure::Failure;

/// Stops that a repair ends.
const REPAIRABLE: [&str; 9] = [
    "slot-lost",
    "slot-missing",
    "slot-ahead",
    "slot-without-record",
    "timeline-lost",
    "wal-behind",
    "publication-changed",
    "fingerprint-changed",
    "repair-unfinished",
];

/// Why a repair is needed.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// The code that the relay stops with; `anyway` if only the operator says so.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// How far publishing had come; `None` if there is no record of it.
    pub reach: Option<Reach>,
    /// A feed that was under way.
    #[serde(skip)]
    pub feed: Option<FeedProgress>,
    /// Events at positions from here on may be of rows that this server does not have.
    pub phantoms_from: Option<Lsn>,
}

impl Diagnosis {
    /// A backfill or a repair that goes on. A replay does not: its rows were published before, and
    /// who asked for it is told to ask again.
    pub fn unfinished(&self) -> Option<&FeedProgress> {
        self.feed.as_ref().filter(|feed| !feed.fed.controlled)
    }
}

/// How far the checkpoint reaches.
#[derive(Debug, Clone, Serialize)]
pub struct Reach {
    /// Commit LSN of the last transaction that was published.
    pub commit_lsn: Option<Lsn>,
    /// When it was committed, microseconds since 1970.
    pub commit_time_us: Option<i64>,
    /// Everything that commits below was published and confirmed.
    pub confirmed_up_to: Lsn,
    /// The server's timeline then.
    pub timeline: u32,
}

impl Reach {
    fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            commit_lsn: checkpoint.position.map(|p| p.commit_lsn.0),
            commit_time_us: checkpoint.position.map(|p| p.commit_time_us),
            confirmed_up_to: checkpoint.confirmed_up_to,
            timeline: checkpoint.identity.timeline,
        }
    }
}

/// What the relay would say at its start; `None` if it would go on.
pub(super) fn diagnose(
    checkpoint: Option<&Checkpoint>,
    facts: &ServerFacts,
    ways: &Ways,
) -> Result<Option<Diagnosis>, Failure> {
    let started = check_start(checkpoint, facts, Consent::default());
    let (code, message) = match started {
        Ok(_) if ways.anyway || ways.phantoms_from.is_some() => {
            ("anyway", "slot and checkpoint agree".to_owned())
        }
        Ok(_) => return Ok(None),
        Err(halt) => {
            let failure = Failure::from(halt);
            if !REPAIRABLE.contains(&failure.code.name) {
                return Err(failure);
            }
            (failure.code.name, failure.message)
        }
    };
    let record = checkpoint.filter(|c| c.kind != Kind::Intent);
    let derived = || record.and_then(|record| phantoms_from(record, facts, code));
    Ok(Some(Diagnosis {
        code,
        message,
        reach: record.map(Reach::of),
        feed: record.and_then(|record| record.feed.clone()),
        phantoms_from: ways.phantoms_from.or_else(derived),
    }))
}

/// From which position on events may have lost their rows: where this server left the timeline of
/// the checkpoint, or what a restored server's own slot was confirmed up to.
fn phantoms_from(record: &Checkpoint, facts: &ServerFacts, code: &str) -> Option<Lsn> {
    let recorded = record.identity.timeline;
    if recorded != facts.identity.timeline {
        let switch = facts.history.iter().find(|s| s.timeline == recorded);
        return Some(switch.map_or(Lsn::INVALID, |switch| switch.ends_at));
    }
    let restored = facts.wal_end < record.confirmed_up_to || code == "anyway";
    let slot = facts.slot.as_ref().map(|slot| slot.confirmed_flush);
    restored.then(|| slot.unwrap_or(facts.wal_end).min(facts.wal_end))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use delivery::{CHECKPOINT_FORMAT, Coverage, Fingerprint, Identity, SlotFacts, TimelineSwitch};

    use super::*;

    fn identity(timeline: u32) -> Identity {
        Identity {
            system_identifier: "7".into(),
            timeline,
            database: "app".into(),
            slot: "outboxd".into(),
        }
    }

    fn record() -> Checkpoint {
        Checkpoint {
            format: CHECKPOINT_FORMAT,
            kind: Kind::Progress,
            identity: identity(1),
            position: None,
            floor: Lsn::INVALID,
            confirmed_up_to: Lsn::from(100),
            settled_below: Lsn::INVALID,
            fingerprint: Fingerprint::of(""),
            coverage: None,
            whole_tables: std::collections::BTreeSet::new(),
            exceptions: None,
            producers: 1,
            transactional_id_prefix: None,
            feed: None,
            relay_version: String::new(),
        }
    }

    fn facts(confirmed: u64) -> ServerFacts {
        ServerFacts {
            identity: identity(1),
            wal_end: Lsn::from(200),
            history: Vec::new(),
            slot: Some(SlotFacts {
                plugin: Some("pgoutput".into()),
                database: Some("app".into()),
                confirmed_flush: Lsn::from(confirmed),
                lost: None,
            }),
            fingerprint: Fingerprint::of(""),
            coverage: Coverage::default(),
        }
    }

    fn code(checkpoint: Option<&Checkpoint>, facts: &ServerFacts) -> Result<&'static str, Failure> {
        let diagnosis = diagnose(checkpoint, facts, &Ways::default())?;
        Ok(diagnosis.map_or("nothing", |diagnosis| diagnosis.code))
    }

    #[test]
    fn what_stops_the_relay_is_repaired_and_nothing_else() {
        assert_eq!(code(Some(&record()), &facts(90)).unwrap(), "nothing");
        assert_eq!(code(Some(&record()), &facts(110)).unwrap(), "slot-ahead");
        assert_eq!(code(None, &facts(90)).unwrap(), "slot-without-record");
        let repair = Checkpoint {
            kind: Kind::Repair,
            ..record()
        };
        assert_eq!(
            code(Some(&repair), &facts(90)).unwrap(),
            "repair-unfinished"
        );
        let mut foreign = facts(90);
        foreign.identity.system_identifier = "8".into();
        let refused = code(Some(&record()), &foreign).unwrap_err();
        assert_eq!(refused.code.name, "foreign-system");
    }

    #[test]
    fn events_may_have_lost_their_rows_where_the_server_left_its_history() {
        let check = |facts: &ServerFacts, expected: Option<u64>| {
            let ways = Ways {
                anyway: true,
                ..Ways::default()
            };
            let diagnosis = diagnose(Some(&record()), facts, &ways).unwrap().unwrap();
            assert_eq!(diagnosis.phantoms_from, expected.map(Lsn::from));
        };
        let promoted = ServerFacts {
            identity: identity(2),
            history: vec![TimelineSwitch {
                timeline: 1,
                ends_at: Lsn::from(80),
            }],
            ..facts(70)
        };
        check(&promoted, Some(80));
        let strange = ServerFacts {
            identity: identity(2),
            ..facts(70)
        };
        check(&strange, Some(0));
        let restored = ServerFacts {
            wal_end: Lsn::from(95),
            ..facts(60)
        };
        check(&restored, Some(60));
        let lost = ServerFacts {
            slot: None,
            ..facts(0)
        };
        let diagnosis = diagnose(Some(&record()), &lost, &Ways::default());
        assert_eq!(diagnosis.unwrap().unwrap().phantoms_from, None);
    }
}
