use super::*;
use crate::cli::doctor::report::Verdict;

fn healthy() -> ServerReadings {
    let settings = [
        ("wal_level", "logical"),
        ("max_replication_slots", "10"),
        ("max_wal_senders", "10"),
        ("max_slot_wal_keep_size", "65536"),
        ("synchronous_standby_names", ""),
        ("server_version", "18.4"),
        ("idle_replication_slot_timeout", "0"),
    ];
    ServerReadings {
        version: 180_004,
        settings: settings.map(|(n, v)| (n.into(), v.into())).into(),
        user: "outboxd".into(),
        streams: true,
        tls: None,
        slots_used: 1,
        senders_used: 0,
        has_slot: false,
        slot_is_active: false,
    }
}

#[test]
fn a_healthy_server_passes_every_check() {
    let checks = healthy().check(&Pipeline::default());
    let troubled: Vec<_> = checks.iter().filter(|c| c.verdict != Verdict::Ok).collect();
    assert!(troubled.is_empty(), "{troubled:?}");
    assert_eq!(checks.len(), 9);
}

/// The check that `change` makes fail or warn, with its code.
fn troubled(
    change: impl FnOnce(&mut ServerReadings),
) -> (&'static str, Verdict, Option<&'static str>) {
    let mut facts = healthy();
    change(&mut facts);
    let checks = facts.check(&Pipeline::default());
    let mut troubled = checks.into_iter().filter(|c| c.verdict != Verdict::Ok);
    let check = troubled.next().expect("a check that is not in order");
    assert_eq!(troubled.next(), None);
    assert!(check.fix.is_some(), "{check:?}");
    (check.name, check.verdict, check.code)
}

fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut ServerReadings) {
    move |facts| {
        facts.settings.insert(name.into(), value.into());
    }
}

#[test]
fn each_fault_fails_its_own_check() {
    use Verdict::{Fail, Warn};
    assert_eq!(
        troubled(set("wal_level", "replica")),
        ("wal-level", Fail, Some("wal-level"))
    );
    assert_eq!(
        troubled(|f| f.streams = false),
        ("role", Fail, Some("replication-denied"))
    );
    assert_eq!(
        troubled(|f| f.slots_used = 10),
        ("replication-slots", Fail, Some("slots-exhausted"))
    );
    assert_eq!(
        troubled(|f| f.senders_used = 10),
        ("walsenders", Fail, Some("slots-exhausted"))
    );
    assert_eq!(
        troubled(set("max_slot_wal_keep_size", "-1")),
        ("max-slot-wal-keep-size", Warn, None)
    );
    assert_eq!(
        troubled(set("max_slot_wal_keep_size", "64")),
        ("max-slot-wal-keep-size", Warn, None)
    );
    assert_eq!(
        troubled(set("idle_replication_slot_timeout", "1d")),
        ("idle-slot-timeout", Warn, None)
    );
    assert_eq!(
        troubled(set("synchronous_standby_names", "*")),
        ("synchronous-standbys", Fail, None)
    );
    assert_eq!(
        troubled(|f| f.version = 130_012),
        ("server-version", Fail, None)
    );
    assert_eq!(
        troubled(|f| f.version = 190_000),
        ("server-version", Warn, None)
    );
}

#[test]
fn what_the_relay_holds_itself_is_enough() {
    let mut facts = healthy();
    (facts.slots_used, facts.senders_used) = (10, 10);
    (facts.has_slot, facts.slot_is_active) = (true, true);
    let checks = facts.check(&Pipeline::default());
    assert!(checks.iter().all(|c| c.verdict == Verdict::Ok));
}

#[test]
fn remote_servers_are_to_be_encrypted_and_verified() {
    let check = |host: &str, tls: Option<&str>, mode, expected| {
        let mut pipeline = Pipeline::default();
        for h in &mut pipeline.postgres.hosts {
            h.host = HostAddr::Tcp(host.into());
        }
        pipeline.postgres.sslmode = mode;
        let facts = ServerReadings {
            tls: tls.map(str::to_owned),
            ..healthy()
        };
        let found = facts.tls(&pipeline.postgres).map(|c| c.verdict);
        assert_eq!(found, Some(expected), "{host} {tls:?} {mode}");
    };
    check("localhost", None, SslMode::Disable, Verdict::Ok);
    check("db.internal", None, SslMode::Disable, Verdict::Warn);
    check(
        "db.internal",
        Some("TLSv1.3"),
        SslMode::Require,
        Verdict::Warn,
    );
    check(
        "db.internal",
        Some("TLSv1.3"),
        SslMode::VerifyFull,
        Verdict::Ok,
    );
    check("localhost", Some("TLSv1.3"), SslMode::Require, Verdict::Ok);
}

#[test]
fn synchronous_standby_names_are_read_as_the_server_reads_them() {
    let cases = [
        ("", false),
        ("*", true),
        ("\"*\"", true),
        ("s1, s2", false),
        ("s1, OutboxD", true),
        ("\"outboxd\"", true),
        ("outboxd2", false),
        ("FIRST 2 (s1, *)", true),
        ("first 1 (s1, s2)", false),
        ("ANY 1 (s1, outboxd)", true),
        ("2 (s1, \"outboxd\")", true),
    ];
    for (names, expected) in cases {
        assert_eq!(waits_for(names, "outboxd"), expected, "{names}");
    }
}
