//! The decision at every start, reconnect and takeover: go on, or stop because of a gap.

use pgoutput::Lsn;

use crate::{
    Checkpoint, Coverage, Exceptions, Fingerprint, Halt, Identity, Kind, Resume,
    TransactionPosition,
};

/// A row of `pg_replication_slots`.
#[derive(Debug, Clone)]
pub struct SlotFacts {
    /// Output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// The slot's database; `None` for a physical slot.
    pub database: Option<String>,
    /// `confirmed_flush_lsn`.
    pub confirmed_flush: Lsn,
    /// Why the server has given the slot up, if it has.
    pub lost: Option<String>,
}

/// Where a past timeline of the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimelineSwitch {
    /// The timeline.
    pub timeline: u32,
    /// The first LSN that is not on it any more.
    pub ends_at: Lsn,
}

/// What the server says of itself, read on the session that then streams.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// Cluster, timeline, database and the configured slot.
    pub identity: Identity,
    /// End of the flushed WAL.
    pub wal_end: Lsn,
    /// The past timelines of the server.
    pub history: Vec<TimelineSwitch>,
    /// The slot, if it exists.
    pub slot: Option<SlotFacts>,
    /// Of the publication and protocol options.
    pub fingerprint: Fingerprint,
    /// The publication and the configured tables.
    pub coverage: Coverage,
}

/// What the operator has looked into and takes the responsibility for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Consent {
    /// A slot without a record may be taken over.
    pub adopt_slot: bool,
    /// The publication may be gone on with as it is now: the token of that coverage.
    pub publication: Option<Fingerprint>,
}

/// How to start.
#[derive(Debug, Clone)]
pub enum Start {
    /// Nothing exists yet: record the intent, create the slot, record the genesis.
    Create,
    /// The slot exists and is ours (or is to be adopted): record the genesis at its LSN.
    Adopt {
        /// The slot's `confirmed_flush_lsn`.
        at: Lsn,
    },
    /// Stream, skipping what the checkpoint covers.
    Resume(Resume),
}

/// Decides from the committed checkpoint and the server how to start.
pub fn check_start(
    checkpoint: Option<&Checkpoint>,
    server: &ServerFacts,
    consent: Consent,
) -> Result<Start, Halt> {
    check_slot(server)?;
    let Some(checkpoint) = checkpoint else {
        return start_without_record(server, consent.adopt_slot);
    };
    check_identity(&checkpoint.identity, &server.identity)?;
    if checkpoint.kind == Kind::Repair {
        return Err(repair_unfinished(server));
    }
    if let Some(before) = &checkpoint.coverage {
        check_coverage(before, &server.coverage, consent)?;
    }
    match (checkpoint.kind, &server.slot) {
        (Kind::Repair, _) => Err(repair_unfinished(server)),
        (Kind::Intent, None) => Ok(Start::Create),
        (Kind::Intent, Some(_)) if checkpoint.feed.is_some() => Err(Halt::BackfillUnfinished {
            slot: server.identity.slot.clone(),
        }),
        (Kind::Intent, Some(slot)) => Ok(Start::Adopt {
            at: slot.confirmed_flush,
        }),
        (Kind::Genesis | Kind::Progress, None) => Err(Halt::SlotMissing {
            slot: server.identity.slot.clone(),
            confirmed_up_to: checkpoint.confirmed_up_to,
        }),
        (Kind::Genesis | Kind::Progress, Some(slot)) => {
            resume(checkpoint, server, slot).map(Start::Resume)
        }
    }
}

fn repair_unfinished(server: &ServerFacts) -> Halt {
    Halt::RepairUnfinished {
        slot: server.identity.slot.clone(),
    }
}

fn start_without_record(server: &ServerFacts, adopt_slot: bool) -> Result<Start, Halt> {
    match &server.slot {
        None => Ok(Start::Create),
        Some(slot) if adopt_slot => Ok(Start::Adopt {
            at: slot.confirmed_flush,
        }),
        Some(_) => Err(Halt::SlotWithoutRecord {
            slot: server.identity.slot.clone(),
        }),
    }
}

/// Whether the slot, if there is one, is a living pgoutput slot of this database.
pub fn check_slot(server: &ServerFacts) -> Result<(), Halt> {
    let identity = &server.identity;
    let Some(slot) = &server.slot else {
        return Ok(());
    };
    let foreign = |reason: String| Halt::SlotForeign {
        slot: identity.slot.clone(),
        reason,
    };
    match slot.plugin.as_deref() {
        Some("pgoutput") => {}
        Some(plugin) => return Err(foreign(format!("its plugin is {plugin:?}, not pgoutput"))),
        None => return Err(foreign("it is a physical slot".into())),
    }
    match &slot.database {
        Some(database) if *database == identity.database => {}
        other => {
            let database = other.as_deref().unwrap_or("none");
            return Err(foreign(format!("it belongs to database {database:?}")));
        }
    }
    match &slot.lost {
        Some(reason) => Err(Halt::SlotLost {
            slot: identity.slot.clone(),
            reason: reason.clone(),
        }),
        None => Ok(()),
    }
}

/// Whether the publication has been the same since `before`, or the operator accepts it as it is.
pub fn check_coverage(before: &Coverage, now: &Coverage, consent: Consent) -> Result<(), Halt> {
    let token = now.token();
    match now.change_since(before) {
        Some(change) if consent.publication != Some(token) => Err(Halt::CoverageChanged {
            change,
            token,
            given: consent.publication,
        }),
        Some(_) | None => Ok(()),
    }
}

/// Whether a checkpoint is of this database and slot. Timelines may differ.
pub fn check_identity(recorded: &Identity, found: &Identity) -> Result<(), Halt> {
    let same = recorded.system_identifier == found.system_identifier
        && recorded.database == found.database
        && recorded.slot == found.slot;
    if same {
        return Ok(());
    }
    let name = |i: &Identity| {
        format!(
            "system {}, database {:?}, slot {:?}",
            i.system_identifier, i.database, i.slot
        )
    };
    Err(Halt::ForeignSystem {
        recorded: name(recorded),
        found: name(found),
    })
}

fn resume(checkpoint: &Checkpoint, server: &ServerFacts, slot: &SlotFacts) -> Result<Resume, Halt> {
    let void_from = void_from(checkpoint, server)?;
    let Valid {
        position,
        floor,
        confirmed_up_to,
    } = still_valid(checkpoint, void_from);
    if server.wal_end < confirmed_up_to {
        return Err(Halt::WalBehind {
            wal_end: server.wal_end,
            confirmed_up_to,
        });
    }
    if slot.confirmed_flush > confirmed_up_to {
        return Err(Halt::SlotAhead {
            slot: server.identity.slot.clone(),
            slot_confirmed: slot.confirmed_flush,
            confirmed_up_to,
        });
    }
    check_fingerprint(checkpoint, position, server)?;
    Ok(Resume {
        position,
        floor,
        confirmed_up_to,
        slot_confirmed: slot.confirmed_flush,
        void_from,
        feed: checkpoint.feed.clone(),
        exceptions: Exceptions::default(),
    })
}

/// What of the checkpoint holds on the server's timeline.
///
/// A position beyond the switch point names a transaction that this server does not have, and its
/// LSN will be used again: it must not live on in later checkpoints. As transactions are published
/// in order, it proves that everything below the switch point has been.
fn still_valid(checkpoint: &Checkpoint, void_from: Option<Lsn>) -> Valid {
    let void = void_from.unwrap_or(Lsn::from(u64::MAX));
    match checkpoint.position {
        Some(position) if position.commit_lsn.0 >= void => Valid {
            position: None,
            floor: void,
            confirmed_up_to: void,
        },
        position => Valid {
            position,
            floor: checkpoint.floor.min(void),
            confirmed_up_to: checkpoint.confirmed_up_to.min(void),
        },
    }
}

/// What [`still_valid`] leaves of a checkpoint.
struct Valid {
    position: Option<TransactionPosition>,
    floor: Lsn,
    confirmed_up_to: Lsn,
}

/// Where the checkpoint's timeline ended, if the server has left it.
fn void_from(checkpoint: &Checkpoint, server: &ServerFacts) -> Result<Option<Lsn>, Halt> {
    let recorded = checkpoint.identity.timeline;
    if recorded == server.identity.timeline {
        return Ok(None);
    }
    match server
        .history
        .iter()
        .find(|switch| switch.timeline == recorded)
    {
        Some(switch) => Ok(Some(switch.ends_at)),
        None => Err(Halt::TimelineLost {
            recorded,
            found: server.identity.timeline,
        }),
    }
}

fn check_fingerprint(
    checkpoint: &Checkpoint,
    position: Option<TransactionPosition>,
    server: &ServerFacts,
) -> Result<(), Halt> {
    match position {
        Some(position) if !position.complete && checkpoint.fingerprint != server.fingerprint => {
            Err(Halt::FingerprintChanged {
                commit_lsn: position.commit_lsn,
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pgoutput::CommitLsn;

    use super::*;
    use crate::{CHECKPOINT_FORMAT, FeedProgress, TransactionPosition};

    fn identity() -> Identity {
        Identity {
            system_identifier: "7".into(),
            timeline: 1,
            database: "app".into(),
            slot: "outboxd".into(),
        }
    }

    fn server() -> ServerFacts {
        ServerFacts {
            identity: identity(),
            wal_end: Lsn::from(200),
            history: Vec::new(),
            slot: Some(SlotFacts {
                plugin: Some("pgoutput".into()),
                database: Some("app".into()),
                confirmed_flush: Lsn::from(90),
                lost: None,
            }),
            fingerprint: Fingerprint::of("a"),
            coverage: coverage("a"),
        }
    }

    fn coverage(publication: &str) -> Coverage {
        Coverage {
            publication: Some(Fingerprint::of(publication)),
            ..Coverage::default()
        }
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            format: CHECKPOINT_FORMAT,
            kind: Kind::Progress,
            identity: identity(),
            position: Some(TransactionPosition {
                commit_lsn: CommitLsn(Lsn::from(95)),
                xid: 1,
                commit_time_us: 0,
                index: 2,
                complete: true,
            }),
            floor: Lsn::INVALID,
            feed: None,
            confirmed_up_to: Lsn::from(100),
            fingerprint: Fingerprint::of("a"),
            coverage: Some(coverage("a")),
            producers: 2,
            transactional_id_prefix: None,
            relay_version: "0.1.0".into(),
        }
    }

    fn check(checkpoint: Option<Checkpoint>, server: ServerFacts) -> String {
        match check_start(checkpoint.as_ref(), &server, Consent::default()) {
            Ok(Start::Create) => "create".into(),
            Ok(Start::Adopt { at }) => format!("adopt {}", at.as_u64()),
            Ok(Start::Resume(r)) => format!("resume {}", r.confirmed_up_to.as_u64()),
            Err(halt) => halt.code().into(),
        }
    }

    #[test]
    fn a_first_start_creates() {
        assert_eq!(
            check(
                None,
                ServerFacts {
                    slot: None,
                    ..server()
                }
            ),
            "create"
        );
        let intent = Checkpoint {
            kind: Kind::Intent,
            ..checkpoint()
        };
        assert_eq!(
            check(
                Some(intent),
                ServerFacts {
                    slot: None,
                    ..server()
                }
            ),
            "create"
        );
    }

    #[test]
    fn a_slot_made_after_our_intent_is_ours() {
        let intent = Checkpoint {
            kind: Kind::Intent,
            ..checkpoint()
        };
        assert_eq!(check(Some(intent), server()), "adopt 90");
    }

    #[test]
    fn a_slot_without_the_feed_that_belongs_to_it_is_not_adopted() {
        let intent = Checkpoint {
            kind: Kind::Intent,
            feed: Some(FeedProgress {
                request: "r".into(),
                ..FeedProgress::default()
            }),
            ..checkpoint()
        };
        assert_eq!(check(Some(intent.clone()), server()), "backfill-unfinished");
        let slotless = ServerFacts {
            slot: None,
            ..server()
        };
        assert_eq!(check(Some(intent), slotless), "create");
    }

    #[test]
    fn a_repair_that_was_begun_is_ended_before_anything_else() {
        let repair = Checkpoint {
            kind: Kind::Repair,
            ..checkpoint()
        };
        let slotless = ServerFacts {
            slot: None,
            ..server()
        };
        let replaced = ServerFacts {
            coverage: coverage("b"),
            ..server()
        };
        for server in [server(), slotless, replaced] {
            assert_eq!(check(Some(repair.clone()), server), "repair-unfinished");
        }
    }

    #[test]
    fn a_slot_without_record_is_adopted_only_on_the_operators_word() {
        assert_eq!(check(None, server()), "slot-without-record");
        let consent = Consent {
            adopt_slot: true,
            ..Consent::default()
        };
        assert!(matches!(
            check_start(None, &server(), consent),
            Ok(Start::Adopt { .. })
        ));
    }

    #[test]
    fn a_restart_resumes() {
        assert_eq!(check(Some(checkpoint()), server()), "resume 100");
    }

    #[test]
    fn every_gap_has_its_own_code() {
        let slot = server().slot.unwrap();
        let with_slot = |slot| ServerFacts {
            slot: Some(slot),
            ..server()
        };
        let cases = [
            (
                "slot-missing",
                ServerFacts {
                    slot: None,
                    ..server()
                },
            ),
            (
                "slot-lost",
                with_slot(SlotFacts {
                    lost: Some("wal".into()),
                    ..slot.clone()
                }),
            ),
            (
                "slot-foreign",
                with_slot(SlotFacts {
                    plugin: None,
                    ..slot.clone()
                }),
            ),
            (
                "slot-foreign",
                with_slot(SlotFacts {
                    plugin: Some("x".into()),
                    ..slot.clone()
                }),
            ),
            (
                "slot-foreign",
                with_slot(SlotFacts {
                    database: Some("x".into()),
                    ..slot.clone()
                }),
            ),
            (
                "slot-ahead",
                with_slot(SlotFacts {
                    confirmed_flush: Lsn::from(101),
                    ..slot
                }),
            ),
            (
                "wal-behind",
                ServerFacts {
                    wal_end: Lsn::from(99),
                    ..server()
                },
            ),
        ];
        for (code, server) in cases {
            assert_eq!(check(Some(checkpoint()), server), code);
        }
    }

    #[test]
    fn another_system_database_or_slot_is_foreign() {
        for change in [
            |i: &mut Identity| i.system_identifier = "8".into(),
            |i: &mut Identity| i.database = "other".into(),
            |i: &mut Identity| i.slot = "other".into(),
        ] {
            let mut checkpoint = checkpoint();
            change(&mut checkpoint.identity);
            assert_eq!(check(Some(checkpoint), server()), "foreign-system");
        }
    }

    #[test]
    fn a_promotion_voids_what_lies_beyond_the_switch_point() {
        let mut promoted = server();
        promoted.identity.timeline = 2;
        assert_eq!(check(Some(checkpoint()), promoted.clone()), "timeline-lost");
        promoted.history = vec![TimelineSwitch {
            timeline: 1,
            ends_at: Lsn::from(94),
        }];
        assert_eq!(check(Some(checkpoint()), promoted), "resume 94");
    }

    #[test]
    fn a_position_that_a_promotion_voided_is_forgotten() {
        let mut promoted = server();
        promoted.identity.timeline = 2;
        promoted.history = vec![TimelineSwitch {
            timeline: 1,
            ends_at: Lsn::from(94),
        }];
        let resumed = |checkpoint: &Checkpoint| match check_start(
            Some(checkpoint),
            &promoted,
            Consent::default(),
        ) {
            Ok(Start::Resume(resume)) => (resume.position.is_some(), resume.confirmed_up_to),
            other => panic!("{other:?}"),
        };
        let beyond = checkpoint();
        assert_eq!(resumed(&beyond), (false, Lsn::from(94)));
        let mut half = checkpoint();
        half.confirmed_up_to = Lsn::from(91);
        assert_eq!(resumed(&half), (false, Lsn::from(94)));
        let mut before = checkpoint();
        before.position.as_mut().unwrap().commit_lsn = CommitLsn(Lsn::from(92));
        assert_eq!(resumed(&before), (true, Lsn::from(94)));
    }

    #[test]
    fn a_replaced_publication_stops_until_it_is_accepted_as_it_is() {
        let replaced = |publication| ServerFacts {
            coverage: coverage(publication),
            ..server()
        };
        assert_eq!(
            check(Some(checkpoint()), replaced("b")),
            "publication-changed"
        );
        let unknown = Checkpoint {
            coverage: None,
            ..checkpoint()
        };
        assert_eq!(check(Some(unknown), replaced("b")), "resume 100");
        let consent = Consent {
            publication: Some(coverage("b").token()),
            ..Consent::default()
        };
        let accepted =
            |publication| check_start(Some(&checkpoint()), &replaced(publication), consent).is_ok();
        assert!(accepted("b"));
        assert!(
            !accepted("c"),
            "consent is for one state of the publication"
        );
    }

    #[test]
    fn another_fingerprint_matters_only_in_mid_transaction() {
        let changed = ServerFacts {
            fingerprint: Fingerprint::of("b"),
            ..server()
        };
        assert_eq!(check(Some(checkpoint()), changed.clone()), "resume 100");
        let mut half = checkpoint();
        half.position.as_mut().unwrap().complete = false;
        assert_eq!(check(Some(half), changed), "fingerprint-changed");
    }
}
