#![allow(clippy::unwrap_used)]
use pgoutput::CommitLsn;

use super::*;
use crate::{CHECKPOINT_FORMAT, FeedProgress, ParkedKey, TransactionPosition};

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
        settled_below: Lsn::INVALID,
        confirmed_up_to: Lsn::from(100),
        fingerprint: Fingerprint::of("a"),
        coverage: Some(coverage("a")),
        whole_tables: BTreeSet::new(),
        exceptions: None,
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

#[test]
fn a_table_is_whole_only_while_the_stream_covers_it_without_a_break() {
    let covers = |publication, tables: &[&str]| Coverage {
        tables: tables
            .iter()
            .map(|name| ((*name).to_owned(), Fingerprint::of(name)))
            .collect(),
        ..coverage(publication)
    };
    let whole = |before: Option<Coverage>, now: Coverage| {
        let recorded = Checkpoint {
            coverage: before,
            whole_tables: ["a", "b"].map(str::to_owned).into(),
            ..checkpoint()
        };
        let consent = Consent {
            publication: Some(now.token()),
            ..Consent::default()
        };
        let now = ServerFacts {
            coverage: now,
            ..server()
        };
        match check_start(Some(&recorded), &now, consent).unwrap() {
            Start::Resume(resume) => resume.whole_tables.into_iter().collect::<Vec<_>>(),
            Start::Create | Start::Adopt { .. } => panic!("resumes"),
        }
    };
    let both = || covers("p", &["a", "b"]);
    assert_eq!(whole(Some(both()), both()), ["a", "b"]);
    assert_eq!(whole(Some(both()), covers("p", &["b", "c"])), ["b"]);
    assert_eq!(whole(Some(covers("p", &["b"])), both()), ["b"], "put back");
    let none: [&str; 0] = [];
    assert_eq!(
        whole(Some(both()), covers("q", &["a", "b"])),
        none,
        "accepted"
    );
    assert_eq!(whole(None, both()), none);
}

#[test]
fn parked_keys_that_are_gone_stop_until_that_state_is_accepted() {
    let checkpoint = Checkpoint {
        exceptions: Some(1),
        ..checkpoint()
    };
    let nothing = Exceptions::default();
    let lost = check_exceptions(&checkpoint, &nothing, Consent::default());
    let Err(Halt::ExceptionsLost {
        recorded: 1,
        found: 0,
        token,
        ..
    }) = lost
    else {
        panic!("{lost:?}");
    };
    let consent = |token| Consent {
        exceptions: Some(token),
        ..Consent::default()
    };
    assert!(check_exceptions(&checkpoint, &nothing, consent(token)).is_ok());
    let other = consent(Fingerprint::of("another"));
    assert!(check_exceptions(&checkpoint, &nothing, other).is_err());
    let key = ParkedKey {
        service: "bank".into(),
        key: "k".into(),
        request: None,
    };
    let found = Exceptions {
        parked: vec![key],
        ..nothing
    };
    assert!(check_exceptions(&checkpoint, &found, Consent::default()).is_ok());
    let unknown = Checkpoint {
        exceptions: None,
        ..checkpoint
    };
    assert!(check_exceptions(&unknown, &found, Consent::default()).is_ok());
}
