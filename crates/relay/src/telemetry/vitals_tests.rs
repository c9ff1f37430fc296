use super::*;

fn vitals() -> Vitals {
    Vitals::new(&Pipeline::default())
}

fn holder() -> Holder {
    Holder {
        pid: 7,
        application_name: "outboxd".into(),
        is_relay: true,
        client: Some("10.0.0.7".into()),
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
    assert_eq!(vitals.failed(&lost()), News::First);
    assert!(!vitals.readiness().ready);
    // It was found while a session was opened. One that streams is past it.
    vitals.enter(State::Starting);
    assert_eq!(vitals.state(), State::Stopped);
    assert_eq!(vitals.failed(&lost()), News::Known);
    vitals.enter(State::Starting);
    vitals.enter(State::Streaming);
    assert!(vitals.readiness().ready);
    assert_eq!(vitals.failed(&lost()), News::First);
}

fn lost() -> Failure {
    Failure::new("slot-lost", "gone")
}

fn slot(wal_end: u64, confirmed: u64) -> SlotUse {
    SlotUse {
        wal_end: Lsn::from(wal_end),
        confirmed_flush: Some(Lsn::from(confirmed)),
        lag_bytes: 0,
        retained_bytes: 0,
        retained_limit_bytes: None,
        wal_status: None,
    }
}

/// A session that streams until it meets a row that can't be published.
fn meets_a_bad_row(vitals: &Vitals) -> News {
    vitals.enter(State::Starting);
    vitals.holds_slot();
    vitals.enter(State::Streaming);
    vitals.reached(Lsn::from(51));
    let failure = Failure::new("event-too-large", "at 0/32");
    vitals.released(&failure);
    vitals.failed(&failure)
}

#[test]
fn a_stopped_pipeline_stays_so_until_the_slot_is_past_the_cause() {
    let vitals = vitals();
    assert_eq!(meets_a_bad_row(&vitals), News::First);
    let stopped = || {
        let readiness = vitals.readiness();
        let first = readiness.reasons.first().cloned().unwrap_or_default();
        assert!(!readiness.ready && first.contains("event-too-large"));
        assert_eq!(readiness.role, Role::Candidate);
        readiness.state == State::Stopped && vitals.state() == State::Stopped
    };
    assert!(stopped());
    vitals.enter(State::Starting);
    vitals.holds_slot();
    assert!(stopped() && vitals.is_rechecking());
    vitals.enter(State::Streaming);
    vitals.committed();
    vitals.confirmed(Lsn::from(50));
    vitals.looked(slot(90, 50));
    assert!(stopped());
    assert_eq!(meets_a_bad_row(&vitals), News::Known);
    let unreachable = Failure::new("kafka-unreachable", "no broker");
    vitals.enter(State::Starting);
    vitals.failed(&unreachable);
    assert!(stopped(), "whatever happens while it looks again");
    assert!(vitals.readiness().reasons[1].contains("no broker"));
    vitals.enter(State::Starting);
    vitals.holds_slot();
    vitals.enter(State::Streaming);
    vitals.committed();
    vitals.confirmed(Lsn::from(51));
    assert!(vitals.readiness().ready);
    assert_eq!(vitals.role(), Role::Active);
}

#[test]
fn a_standby_that_was_stopped_is_of_no_use_until_the_active_one_is_past_the_cause() {
    let vitals = vitals();
    meets_a_bad_row(&vitals);
    vitals.failed(&Failure::new("slot-active", "held"));
    vitals.held_by(holder());
    vitals.looked(slot(90, 50));
    let readiness = vitals.readiness();
    assert_eq!((readiness.ready, readiness.role), (false, Role::Standby));
    assert!(readiness.reasons[0].contains("event-too-large"));
    vitals.looked(slot(90, 60));
    assert!(vitals.readiness().ready);
}

#[test]
fn lag_is_told_by_the_relay_whose_it_is() -> Result<(), &'static str> {
    let vitals = vitals();
    assert_eq!(
        vitals.publish_lag_seconds(),
        None,
        "whose it is, is not known"
    );
    assert!(vitals.is_stale());
    let held = Failure::new("slot-active", "held");
    vitals.released(&held);
    vitals.failed(&held);
    vitals.looked(slot(90, 90));
    vitals.looked(slot(100, 90));
    // A standby that can't see the slot any more is one all the same.
    vitals.failed(&Failure::new("postgres-unreachable", "gone"));
    assert_eq!(vitals.publish_lag_seconds(), None);
    assert_eq!(vitals.role(), Role::Standby);
    let long_ago = Instant::now().checked_sub(Duration::from_secs(3600));
    vitals.lock().lag = Lag::new(long_ago.ok_or("the machine has just been started")?);
    vitals.looked(slot(100, 90));
    vitals.holds_slot();
    let lag = vitals.publish_lag_seconds();
    assert!(lag.is_some_and(|lag| lag < 60.0), "{lag:?}");
    assert_eq!(vitals.role(), Role::Active);
    let lost = Failure::new("postgres-lost", "gone");
    vitals.released(&lost);
    vitals.failed(&lost);
    assert!(vitals.publish_lag_seconds().is_some());
    assert_eq!(vitals.role(), Role::Candidate, "it does not hold the slot");
    Ok(())
}

#[test]
fn what_is_confirmed_is_told_by_the_slot_where_this_relay_confirms_nothing() {
    let vitals = vitals();
    assert_eq!(vitals.status().confirmed_lsn, None);
    vitals.looked(slot(90, 50));
    assert_eq!(vitals.status().confirmed_lsn, Some(Lsn::from(50)));
    vitals.confirmed(Lsn::from(60));
    assert_eq!(vitals.status().confirmed_lsn, Some(Lsn::from(60)));
    vitals.released(&Failure::new("postgres-lost", "gone"));
    vitals.looked(slot(90, 70));
    assert_eq!(vitals.status().confirmed_lsn, Some(Lsn::from(70)));
}

#[test]
fn a_relay_is_cut_off_from_kafka_while_it_holds_the_slot_and_nothing_gets_through() {
    let vitals = vitals();
    let trouble = Failure::new("kafka-unreachable", "no broker");
    vitals.trouble(&trouble);
    assert_eq!(
        vitals.cut_off_from_kafka(),
        None,
        "it does not hold the slot"
    );
    vitals.holds_slot();
    assert!(vitals.cut_off_from_kafka().is_some());
    vitals.committed();
    assert_eq!(vitals.cut_off_from_kafka(), None);
    let waiting = Instant::now();
    vitals.beat(waiting, Some(waiting));
    assert!(vitals.cut_off_from_kafka().is_some());
    vitals.failed(&Failure::new("yielded", "left to a standby"));
    assert_eq!(vitals.cut_off_from_kafka(), None);
}

#[test]
fn a_broker_that_is_silent_is_a_trouble_with_a_remedy() {
    let vitals = vitals();
    let now = Instant::now();
    vitals.beat(now, Some(now));
    assert!(!vitals.in_trouble());
    let long_ago = now.checked_sub(WINDOW_AGE + Duration::from_secs(1));
    vitals.beat(now, long_ago);
    assert!(vitals.in_trouble());
    vitals.committed();
    assert!(!vitals.in_trouble());
}

#[test]
fn a_standby_is_ready_and_says_so() {
    let vitals = vitals();
    vitals.failed(&Failure::new("slot-active", "held"));
    assert!(!vitals.readiness().ready, "nobody has been seen");
    vitals.held_by(holder());
    let readiness = vitals.readiness();
    assert!(readiness.ready);
    assert_eq!(readiness.role, Role::Standby);
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
