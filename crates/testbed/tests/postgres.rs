//! A throwaway Postgres keeps its data through every way of ending it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use testbed::{Error, Postgres, StopMode, vm_hwm_kib};

fn value(postgres: &Postgres, sql: &str) -> String {
    let rows = postgres.sql("postgres", sql).unwrap();
    rows.into_iter().flatten().flatten().next().unwrap()
}

fn survives_every_end(version: u32) {
    let postgres = Postgres::builder().version(version).start().unwrap();
    let major = value(
        &postgres,
        "SELECT current_setting('server_version_num')::int / 10000",
    );
    assert_eq!(major, version.to_string());
    assert_eq!(value(&postgres, "SHOW wal_level"), "logical");
    assert_eq!(value(&postgres, "SHOW server_encoding"), "UTF8");
    postgres
        .sql("postgres", "CREATE TABLE kept (how text)")
        .unwrap();

    postgres
        .sql("postgres", "INSERT INTO kept VALUES ('fast')")
        .unwrap();
    postgres.restart(StopMode::Fast).unwrap();

    postgres
        .sql("postgres", "INSERT INTO kept VALUES ('immediate')")
        .unwrap();
    postgres.stop(StopMode::Immediate).unwrap();
    assert!(matches!(
        postgres.stop(StopMode::Fast),
        Err(Error::NotRunning { .. })
    ));
    assert_eq!(postgres.pid(), None);
    postgres.start_again().unwrap();
    assert!(matches!(
        postgres.start_again(),
        Err(Error::AlreadyRunning { .. })
    ));

    postgres
        .sql("postgres", "INSERT INTO kept VALUES ('killed')")
        .unwrap();
    let killed = postgres.pid().unwrap();
    postgres.kill9().unwrap();
    assert!(vm_hwm_kib(killed).is_err());
    postgres.start_again().unwrap();

    let kept = value(
        &postgres,
        "SELECT string_agg(how, ' ' ORDER BY how) FROM kept",
    );
    assert_eq!(kept, "fast immediate killed");
}

#[test]
fn version_15_survives_every_end() {
    survives_every_end(15);
}

#[test]
fn version_18_survives_every_end() {
    survives_every_end(18);
}

#[test]
fn two_servers_share_neither_port_nor_system_identifier() {
    let one = Postgres::builder().start().unwrap();
    let two = Postgres::builder().start().unwrap();
    assert_ne!(one.port(), two.port());
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    assert_ne!(value(&one, identifier), value(&two, identifier));
}

#[test]
fn the_folder_goes_with_the_server() {
    let postgres = Postgres::builder().start().unwrap();
    let data = postgres.data_dir().to_owned();
    assert!(data.join("PG_VERSION").is_file());
    drop(postgres);
    let asked_to_keep = std::env::var_os("TESTBED_KEEP").is_some();
    assert_eq!(data.exists(), asked_to_keep);
}

#[test]
fn a_killed_server_leaves_no_shared_memory_behind() {
    let postgres = Postgres::builder().start().unwrap();
    let pid_file = std::fs::read_to_string(postgres.data_dir().join("postmaster.pid")).unwrap();
    let segment = pid_file
        .lines()
        .nth(6)
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .to_owned();
    let is_there = || {
        let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        segments
            .lines()
            .any(|line| line.split_whitespace().nth(1) == Some(segment.as_str()))
    };
    assert!(is_there());
    postgres.kill9().unwrap();
    assert!(is_there());
    drop(postgres);
    assert!(!is_there());
}

#[test]
fn a_smart_stop_that_waits_for_a_client_is_bounded() {
    let postgres = Postgres::builder().start().unwrap();
    thread::scope(|scope| {
        let client = scope.spawn(|| postgres.sql("postgres", "SELECT pg_sleep(300)"));
        let active = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        until("the client is there", || value(&postgres, active) == "1");
        let smart = postgres.stop_within(StopMode::Smart, Duration::from_millis(200));
        assert!(matches!(smart, Err(Error::Timeout { .. })));
        postgres.stop(StopMode::Fast).unwrap();
        assert!(client.join().unwrap().is_err());
    });
}

#[test]
fn a_paused_server_answers_only_after_it_is_resumed() {
    let postgres = Postgres::builder().start().unwrap();
    postgres.pause().unwrap();
    let paused = &postgres;
    thread::scope(|scope| {
        let (answered, answer) = mpsc::channel();
        scope.spawn(move || answered.send(value(paused, "SELECT 7")).unwrap());
        let early = answer.recv_timeout(Duration::from_millis(300));
        assert_eq!(early, Err(RecvTimeoutError::Timeout));
        postgres.resume().unwrap();
        assert_eq!(answer.recv_timeout(Duration::from_secs(20)).unwrap(), "7");
    });
}

#[test]
fn tcp_clients_must_know_a_password() {
    let postgres = Postgres::builder().start().unwrap();
    assert_eq!(first_answer(&postgres), (b'R', 10), "AuthenticationSASL");
}

#[test]
fn own_hba_lines_come_before_the_defaults() {
    let line = "host all all 127.0.0.1/32 trust";
    let postgres = Postgres::builder()
        .hba(line)
        .setting("work_mem", "5MB")
        .start()
        .unwrap();
    assert_eq!(first_answer(&postgres), (b'R', 0), "AuthenticationOk");
    assert_eq!(value(&postgres, "SHOW work_mem"), "5MB");
}

#[test]
fn a_tls_server_shows_a_certificate_that_its_authority_signed() {
    let postgres = Postgres::builder().tls().start().unwrap();
    let verified = Command::new("openssl")
        .args(["s_client", "-starttls", "postgres", "-verify_return_error"])
        .args(["-verify_hostname", "localhost", "-connect"])
        .arg(postgres.addr().to_string())
        .arg("-CAfile")
        .arg(postgres.ca_path().unwrap())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
}

/// The kind of the server's first message to a TCP client, and the number in it.
fn first_answer(postgres: &Postgres) -> (u8, u32) {
    let mut stream = TcpStream::connect(postgres.addr()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let parameters = b"\0\x03\0\0user\0postgres\0\0";
    let length = u32::try_from(parameters.len() + 4).unwrap();
    stream.write_all(&length.to_be_bytes()).unwrap();
    stream.write_all(parameters).unwrap();
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).unwrap();
    let [kind, _, _, _, _, number @ ..] = answer;
    (kind, u32::from_be_bytes(number))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
