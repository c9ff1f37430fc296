//! Copies of a data directory: put back, and started as a standby.
#![allow(clippy::unwrap_used, missing_docs)]

use std::thread;
use std::time::{Duration, Instant};

use testbed::{Error, Postgres, StopMode};

fn value(postgres: &Postgres, sql: &str) -> String {
    let rows = postgres.sql("postgres", sql).unwrap();
    rows.into_iter().flatten().flatten().next().unwrap()
}

fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < until, "{what}: not within 60 s");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_running_server_is_not_copied() {
    let postgres = Postgres::builder().start().unwrap();
    assert!(matches!(postgres.copy(), Err(Error::AlreadyRunning { .. })));
}

#[test]
fn a_restored_server_is_the_same_system_in_an_earlier_state() {
    let postgres = Postgres::builder().start().unwrap();
    let identity = "SELECT system_identifier || ' ' || timeline_id \
                    FROM pg_control_system(), pg_control_checkpoint()";
    let before = value(&postgres, identity);
    postgres
        .sql("postgres", "CREATE TABLE kept AS SELECT 1 AS n")
        .unwrap();
    postgres.stop(StopMode::Fast).unwrap();
    let copy = postgres.copy().unwrap();
    postgres.start_again().unwrap();
    postgres
        .sql("postgres", "INSERT INTO kept VALUES (2)")
        .unwrap();
    let end = value(&postgres, "SELECT pg_current_wal_lsn()");

    postgres.stop(StopMode::Fast).unwrap();
    postgres.restore(&copy).unwrap();
    postgres.start_again().unwrap();
    assert_eq!(value(&postgres, "SELECT count(*) FROM kept"), "1");
    assert_eq!(value(&postgres, identity), before);
    let earlier = format!("SELECT pg_current_wal_lsn() < '{end}'");
    assert_eq!(value(&postgres, &earlier), "t");
}

#[test]
fn a_standby_follows_and_is_promoted() {
    let primary = Postgres::builder().start().unwrap();
    primary
        .sql("postgres", "CREATE TABLE kept AS SELECT 1 AS n")
        .unwrap();
    let slot = "SELECT pg_create_logical_replication_slot('logical', 'pgoutput')";
    primary.sql("postgres", slot).unwrap();
    primary.stop(StopMode::Fast).unwrap();
    let copy = primary.copy().unwrap();
    primary.start_again().unwrap();

    let standby = primary.standby(&copy).unwrap();
    assert_eq!(value(&standby, "SELECT pg_is_in_recovery()"), "t");
    let slots = "SELECT count(*) FROM pg_replication_slots";
    assert_eq!(value(&standby, slots), "0");
    primary
        .sql("postgres", "INSERT INTO kept VALUES (2)")
        .unwrap();
    soon("the standby follows", || {
        value(&standby, "SELECT count(*) FROM kept") == "2"
    });

    primary.kill9().unwrap();
    assert_eq!(value(&standby, "SELECT pg_promote()"), "t");
    standby
        .sql("postgres", "INSERT INTO kept VALUES (3)")
        .unwrap();
    assert_eq!(value(&standby, "SELECT count(*) FROM kept"), "3");
}
