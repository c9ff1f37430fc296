use super::*;

fn vitals() -> Vitals {
    Vitals::new(&Pipeline::default())
}

fn holder() -> Holder {
    Holder {
        pid: 7,
        application_name: "outboxd".into(),
        is_relay: true,
    }
}

#[test]
fn readiness_tells_why_not() {
    let vitals = vitals();
    assert!(!vitals.readiness().ready);
    vitals.enter(State::Streaming);
    assert!(vitals.readiness().ready);
    vitals.trouble(&Failure::new("kafka-unreachable", "all brokers down"));
    let readiness = vitals.readiness();
    assert!(!readiness.ready);
    assert!(
        readiness.reasons[0].contains("all brokers down"),
        "{readiness:?}"
    );
    vitals.committed();
    assert!(vitals.readiness().ready);
    assert!(!vitals.failed(&Failure::new("slot-lost", "gone")));
    assert!(!vitals.readiness().ready);
    vitals.enter(State::Starting);
    assert_eq!(vitals.state(), State::Stopped);
    vitals.enter(State::Streaming);
    assert!(vitals.failed(&Failure::new("slot-lost", "gone")));
    vitals.enter(State::Streaming);
    vitals.committed();
    assert!(!vitals.failed(&Failure::new("slot-lost", "gone")));
}

#[test]
fn a_standby_is_ready_and_says_so() {
    let vitals = vitals();
    vitals.failed(&Failure::new("slot-active", "held"));
    assert!(!vitals.readiness().ready, "nobody has been seen");
    vitals.held_by(holder());
    let readiness = vitals.readiness();
    assert!(readiness.ready);
    assert_eq!(readiness.role, "standby");
}

#[test]
fn an_idle_server_may_be_as_quiet_as_its_keepalives_are_rare() {
    let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
    let check = |timeout: u64, quiet: u64, ready: bool| {
        let mut pipeline = Pipeline::default();
        pipeline.postgres.wal_sender_timeout = Duration::from_secs(timeout);
        let vitals = Vitals::new(&pipeline);
        vitals.enter(State::Streaming);
        vitals.lock().heard = ago(quiet);
        assert_eq!(vitals.readiness().ready, ready, "{timeout} {quiet}");
    };
    check(10, 9, true);
    check(10, 11, false);
    check(60, 34, true);
    check(60, 36, false);
}

#[test]
fn a_catalog_that_can_not_be_read_for_long_is_a_reason() -> Result<(), &'static str> {
    let vitals = vitals();
    let failure = Failure::new("postgres-lost", "statement timeout");
    vitals.enter(State::Streaming);
    vitals.look_failed(&failure);
    assert!(vitals.readiness().ready);
    let long_ago = Instant::now().checked_sub(Duration::from_secs(11));
    vitals.lock().watched = long_ago.ok_or("the machine has just been started")?;
    vitals.look_failed(&failure);
    let readiness = vitals.readiness();
    assert!(
        readiness.reasons[0].contains("statement timeout"),
        "{readiness:?}"
    );
    vitals.enter(State::Streaming);
    assert!(vitals.readiness().ready);
    Ok(())
}

#[test]
fn a_panic_is_seen_in_every_state() {
    let vitals = vitals();
    assert!(vitals.is_alive());
    vitals.panicked();
    assert!(!vitals.is_alive());
    assert!(!vitals.readiness().ready);
}
