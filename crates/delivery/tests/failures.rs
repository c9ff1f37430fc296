//! The state machine, driven by hand: what can't be published, parked keys, requests, write-back.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;

use std::time::Duration;

use bench::control::entry;
use bench::{Bench, DEAD_LETTERS, lessons, settings};
use delivery::{
    Answer, Class, Exception, Exceptions, FedRow, FeedProgress, Halt, MarksId, OnDeadLetter,
    Outcome, Resume, Settings, TransactionPosition, WindowId, WriteBack,
};
use envelope::TableId;
use envelope::dead_letter::Entry;
use pgoutput::{Column, CommitLsn, Lsn, Message, PgTimestamp, Relation, Value, encode, oid, parse};

const GOOD: (&str, &str) = ("transfers.settled", "");

fn with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = settings();
    change(&mut settings);
    settings
}

fn parking() -> Settings {
    with(|s| s.tables[0].on_dead_letter = OnDeadLetter::ParkKey)
}

fn writing_back() -> Settings {
    with(|s| s.tables[0].write_back = WriteBack::All)
}

fn dead(class: &'static str) -> (&'static str, &'static str) {
    (DEAD_LETTERS, class)
}

#[test]
fn what_is_too_large_or_unmappable_is_dead_at_once_and_its_batch_goes_on() {
    let mut bench = Bench::new(with(|s| s.event_max_bytes = 500), &Resume::default());
    bench.begin(10).unwrap();
    bench.insert();
    bench
        .insert_payload(&format!("\"{}\"", "x".repeat(1000)))
        .unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.insert();
    bench.commit(10);
    bench.idle();
    assert_eq!(
        bench.fates(),
        [GOOD, dead("too-large"), dead("mapping/null-type"), GOOD]
    );
    assert_eq!(bench.sizes(), [4]);
}

#[test]
fn a_missing_topic_costs_its_attempts_once_and_holds_nothing_back_afterwards() {
    let mut bench = Bench::fresh();
    bench.unusable = vec![("transfers.gone".into(), Answer::Missing)];
    bench.begin(10).unwrap();
    bench.insert();
    bench.insert_row("transfers.gone", "t1", "{}").unwrap();
    bench.commit(10);
    bench.idle();
    assert!(bench.produced.is_empty(), "more attempts are due");
    bench.wait();
    assert_eq!(bench.fates(), [GOOD, dead("topic-missing")]);
    let attempts = bench.asked.iter().filter(|t| *t == "transfers.gone");
    assert_eq!(attempts.count(), 3);
    bench.land(0);
    for lsn in [20, 30, 40] {
        bench.begin(lsn).unwrap();
        bench.insert_row("transfers.gone", "t1", "{}").unwrap();
        bench.commit(lsn);
    }
    bench.idle();
    assert_eq!(bench.events.len(), 5, "known by now");
}

#[test]
fn the_next_session_knows_what_was_refused() {
    let mut bench = Bench::fresh();
    bench.unusable = vec![("transfers.gone".into(), Answer::Denied)];
    bench.begin(10).unwrap();
    bench.insert_row("transfers.gone", "t1", "{}").unwrap();
    bench.commit(10);
    bench.wait();
    assert_eq!(bench.fates(), [dead("topic-denied")]);
    let lessons = bench.delivery.into_lessons();
    let mut next = Bench::after(lessons, settings(), &Resume::default());
    next.begin(10).unwrap();
    next.insert_row("transfers.gone", "t1", "{}").unwrap();
    next.commit(10);
    next.idle();
    assert_eq!(next.fates(), [dead("topic-denied")]);
}

#[test]
fn where_nothing_may_die_the_stream_stops_before_it_and_what_came_before_goes_out() {
    let halting = || with(|s| s.tables[0].on_dead_letter = OnDeadLetter::Halt);
    let mut bench = Bench::new(halting(), &Resume::default());
    bench.transaction(10, 1);
    bench.begin(20).unwrap();
    let refused = bench.insert_row("", "t1", "{}");
    let Err(Halt::Refused { id, verdict, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(id, "59a42efd-b015-44a9-9dde-cb36d9002425");
    assert_eq!(verdict.class, Class::Mapping("null-type"));
    bench.delivery.handle_drain(bench.now);
    bench.poll();
    assert_eq!(bench.fates(), [GOOD]);
}

#[test]
fn what_was_taken_out_with_an_event_that_stops_the_pipeline_is_not_recorded() {
    let halting = || with(|s| s.tables[0].on_dead_letter = OnDeadLetter::Halt);
    let mut bench = Bench::new(halting(), &Resume::default());
    bench.unusable = vec![("transfers.gone".into(), Answer::Missing)];
    bench.transaction(10, 1);
    bench.begin(20).unwrap();
    bench.insert_row("transfers.gone", "t1", "{}").unwrap();
    bench.commit(20);
    bench.wait();
    assert!(matches!(bench.stopped, Some(Halt::Refused { .. })));
    bench.delivery.handle_drain(bench.now);
    bench.poll();
    bench.wait();
    assert!(bench.produced.is_empty() && bench.confirmed.is_empty());
    // The next session first makes durable what comes before it.
    let lessons = bench.delivery.into_lessons();
    let mut next = Bench::after(lessons, halting(), &Resume::default());
    next.unusable = vec![("transfers.gone".into(), Answer::Missing)];
    next.transaction(10, 1);
    next.begin(20).unwrap();
    assert!(!next.delivery.wants_input(), "the barrier");
    assert_eq!(next.fates(), [GOOD]);
    next.land(0);
    assert!(next.delivery.wants_input());
    next.insert_row("transfers.gone", "t1", "{}").unwrap();
    next.commit(20);
    next.wait();
    assert!(matches!(next.stopped, Some(Halt::Refused { .. })));
    assert_eq!(next.fates(), [GOOD]);
}

#[test]
fn without_a_dead_letter_topic_the_pipeline_stops() {
    let mut bench = Bench::fresh();
    bench.unusable = vec![(DEAD_LETTERS.into(), Answer::Missing)];
    bench.begin(10).unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.commit(10);
    bench.wait();
    assert!(matches!(bench.stopped, Some(Halt::DeadLetterTopic { .. })));
    assert!(bench.produced.is_empty());
}

#[test]
fn a_surge_of_dead_letters_stops_the_pipeline() {
    let mut bench = Bench::new(with(|s| s.dead_letters_per_minute = 2), &Resume::default());
    bench.begin(10).unwrap();
    for _ in 0..3 {
        bench.insert_row("", "t1", "{}").unwrap();
    }
    bench.commit(10);
    bench.wait();
    assert!(matches!(bench.stopped, Some(Halt::DeadLetterSurge { .. })));
}

#[test]
fn a_parked_key_takes_its_later_events_along_in_this_session_and_the_next() {
    let mut bench = Bench::new(parking(), &Resume::default());
    bench.begin(10).unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.insert();
    bench.insert_row("transfers.settled", "t2", "{}").unwrap();
    bench.commit(10);
    bench.idle();
    let fates = [dead("mapping/null-type"), dead("parked"), GOOD];
    assert_eq!(bench.fates(), fates);
    assert_eq!(bench.exceptions.len(), 1, "{:?}", bench.exceptions);
    let mut exceptions = Exceptions::default();
    assert!(exceptions.take(&bench.exceptions[0].value().unwrap()));
    let resume = Resume {
        exceptions,
        ..Resume::default()
    };
    let mut next = Bench::new(parking(), &resume);
    next.transaction(20, 1);
    next.idle();
    assert_eq!(next.fates(), [dead("parked")]);
    assert_eq!(next.delivery.parked_keys(), 1);
}

#[test]
fn more_parked_keys_than_allowed_stop_the_pipeline() {
    let settings = Settings {
        max_parked_keys: 1,
        ..parking()
    };
    let mut bench = Bench::new(settings, &Resume::default());
    bench.begin(10).unwrap();
    for key in ["t1", "t1", "t2"] {
        bench.insert_row("", key, "{}").unwrap();
    }
    bench.commit(10);
    bench.wait();
    assert!(matches!(
        bench.stopped,
        Some(Halt::ParkedKeysFull { max_keys: 1 })
    ));
}

#[test]
fn an_event_that_the_brokers_refuse_is_found_by_halves() {
    let mut lessons = lessons(0);
    let mut sizes = Vec::new();
    let class = loop {
        let mut bench = Bench::after(lessons, settings(), &Resume::default());
        bench.begin(10).unwrap();
        // A careful session cuts inside the transaction, and takes one window at a time.
        for _ in 0..4 {
            if bench.delivery.wants_input() {
                bench.insert();
            }
        }
        bench.idle();
        if !bench.produced.is_empty() {
            sizes.extend(bench.sizes());
            if let Some((topic, class)) =
                bench.fates().first().filter(|(_, class)| !class.is_empty())
            {
                assert_eq!(*topic, DEAD_LETTERS);
                break class.to_string();
            }
        } else {
            bench.commit(10);
            bench.idle();
            sizes.extend(bench.sizes());
        }
        let halt = bench
            .delivery
            .handle_refused("record batch refused", bench.now);
        assert!(halt.is_none());
        lessons = bench.delivery.into_lessons();
    };
    assert_eq!(class, "refused");
    assert_eq!(sizes, [4, 2, 1, 1]);
}

#[test]
fn the_slot_is_confirmed_only_once_the_rows_are_written_back() {
    let mut bench = Bench::new(writing_back(), &Resume::default());
    bench.transaction(10, 2);
    bench.idle();
    bench.land(0);
    assert_eq!(bench.confirmed, [] as [u64; 0]);
    let (id, marks) = bench.marks.pop().unwrap();
    assert_eq!(
        marks.iter().map(|mark| mark.outcome).collect::<Vec<_>>(),
        [Outcome::Sent; 2]
    );
    assert_eq!(marks.xids(), [1]);
    bench.delivery.handle_written_back(id, marks, bench.now);
    bench.poll();
    assert_eq!(bench.confirmed, [15]);
}

#[test]
fn rows_published_before_are_written_back_again_and_tell_what_is_dead() {
    let position = TransactionPosition {
        commit_lsn: CommitLsn(Lsn::from(20)),
        xid: 1,
        commit_time_us: PgTimestamp(0).unix_micros(),
        index: 2,
        complete: true,
    };
    let mut first = Bench::new(writing_back(), &Resume::default());
    first.begin(20).unwrap();
    first.insert();
    first.insert_row("", "t1", "{}").unwrap();
    first.commit(20);
    first.idle();
    let mut exceptions = Exceptions::default();
    for exception in &first.exceptions {
        assert!(exceptions.take(&exception.value().unwrap()));
    }
    let resume = Resume {
        position: Some(position),
        confirmed_up_to: Lsn::from(25),
        slot_confirmed: Lsn::from(5),
        exceptions,
        ..Resume::default()
    };
    let mut bench = Bench::new(writing_back(), &resume);
    bench.begin(20).unwrap();
    bench.insert();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.commit(20);
    bench.idle();
    assert!(bench.produced.is_empty(), "nothing is published twice");
    assert_eq!(bench.confirmed, [5]);
    let (id, marks) = bench.marks.pop().unwrap();
    let outcomes: Vec<_> = marks.iter().map(|mark| mark.outcome).collect();
    assert!(
        matches!(
            outcomes[..],
            [Outcome::Sent, Outcome::Failed { attempts: 1, .. }]
        ),
        "{outcomes:?}"
    );
    bench.delivery.handle_written_back(id, marks, bench.now);
    bench.poll();
    assert_eq!(bench.confirmed, [5, 25]);
    bench.transaction(30, 1);
    bench.idle();
    let settled = |e: &Exception| matches!(e, Exception::Settled(_));
    assert!(
        bench.exceptions.iter().any(settled),
        "its row says so by now"
    );
}

#[test]
fn too_many_rows_to_write_back_are_left_to_the_next_session() {
    let settings = Settings {
        max_pending_marks: 2,
        ..writing_back()
    };
    let mut bench = Bench::new(settings, &Resume::default());
    for (window, lsn) in [10, 20, 30].into_iter().enumerate() {
        bench.transaction(lsn, 2);
        bench.idle();
        bench.land(window as u64);
    }
    assert_eq!(bench.marks.len(), 1, "publishing went on");
    let (id, marks) = bench.marks.pop().unwrap();
    assert_eq!(id, MarksId(0));
    bench.delivery.handle_written_back(id, marks, bench.now);
    bench.poll();
    assert!(matches!(bench.stopped, Some(Halt::WriteBackBehind)));
    assert_eq!(bench.confirmed, [15]);
}

#[test]
fn rows_that_can_not_be_written_back_hold_up_the_events_behind_them_only_for_a_while() {
    let settings = Settings {
        max_pending_marks: 1,
        ..writing_back()
    };
    let position = TransactionPosition {
        commit_lsn: CommitLsn(Lsn::from(60)),
        xid: 1,
        commit_time_us: PgTimestamp(0).unix_micros(),
        index: 1,
        complete: true,
    };
    let resume = Resume {
        position: Some(position),
        confirmed_up_to: Lsn::from(65),
        ..Resume::default()
    };
    let mut bench = Bench::new(settings, &resume);
    let mut waits = 0;
    for lsn in [10, 20, 30, 40, 50, 60] {
        bench.transaction(lsn, 1);
        bench.idle();
        while !bench.delivery.wants_input() {
            waits += 1;
            assert!(waits <= 2, "{lsn}");
            bench.pass(Duration::from_secs(5));
        }
    }
    bench.transaction(70, 1);
    bench.idle();
    assert_eq!(bench.fates(), [GOOD]);
}

#[test]
fn a_dead_letter_that_is_refused_as_well_stops_the_pipeline() {
    let mut bench = Bench::fresh();
    bench.begin(10).unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.commit(10);
    bench.idle();
    assert_eq!(bench.fates(), [dead("mapping/null-type")]);
    let halt = bench.delivery.handle_refused("too large", bench.now);
    assert!(matches!(halt, Some(Halt::DeadLetterTopic { .. })));
}

#[test]
fn what_is_skipped_is_not_taken_for_published_until_the_checkpoints_transaction_has_come() {
    let position = TransactionPosition {
        commit_lsn: CommitLsn(Lsn::from(50)),
        xid: 1,
        commit_time_us: PgTimestamp(0).unix_micros(),
        index: 1,
        complete: true,
    };
    let resume = Resume {
        position: Some(position),
        confirmed_up_to: Lsn::from(55),
        slot_confirmed: Lsn::from(5),
        ..Resume::default()
    };
    let mut bench = Bench::new(writing_back(), &resume);
    bench.transaction(20, 1);
    bench.idle();
    assert!(bench.marks.is_empty(), "it may be a restored server");
    bench.transaction(50, 1);
    bench.idle();
    assert_eq!(bench.marks.len(), 1);
    let rows = bench.marks[0].1.len();
    assert_eq!(rows, 2);

    let mut foreign = Bench::new(writing_back(), &resume);
    foreign.transaction(20, 1);
    assert!(foreign.begin(60).is_err(), "the transaction is missing");
    foreign.delivery.handle_drain(foreign.now);
    foreign.poll();
    assert!(foreign.marks.is_empty());
}

#[test]
fn a_request_is_carried_out_between_what_comes_before_and_after_it() {
    let mut bench = Bench::fresh();
    bench.control_relation();
    bench.begin(10).unwrap();
    bench.insert();
    bench.control(r#"{"command":"dlq-replay","filter":{}}"#);
    assert!(!bench.delivery.wants_input());
    assert!(bench.served.is_empty(), "what comes before is not durable");
    assert_eq!(
        bench.sizes(),
        [1],
        "it goes out, in the middle of its transaction"
    );
    let position = bench.last_checkpoint().position.unwrap();
    assert_eq!((position.index, position.complete), (1, false));
    bench.land(0);
    assert_eq!(bench.served.len(), 1);
    assert_eq!(bench.served[0].requested_by, "alice");
    bench.redeliver("transfers.settled", 7);
    assert_eq!(bench.fates()[1..], [GOOD, (DEAD_LETTERS, "")]);
    let position = bench.last_checkpoint().position.unwrap();
    assert_eq!(position.index, 1, "after a crash it is carried out again");
    bench.land(1);
    bench.delivery.handle_served(bench.now);
    assert!(bench.delivery.wants_input());
    bench.commit(10);
    bench.wait();
    let position = bench.last_checkpoint().position.unwrap();
    assert_eq!((position.index, position.complete), (2, true));
}

#[test]
fn what_fails_again_is_dead_lettered_again_and_a_released_key_is_parked_again() {
    let mut bench = Bench::new(parking(), &Resume::default());
    bench.unusable = vec![("transfers.gone".into(), Answer::Missing)];
    bench.control_relation();
    bench.begin(10).unwrap();
    bench.insert_row("transfers.gone", "t1", "{}").unwrap();
    bench.control(r#"{"command":"dlq-release","service":"outbox","key":"t1"}"#);
    bench.wait();
    bench.land(0);
    bench.redeliver("transfers.gone", 0);
    bench.redeliver("transfers.settled", 1);
    bench.delivery.handle_served(bench.now);
    bench.poll();
    bench.wait();
    let fates = [
        dead("topic-missing"),
        (DEAD_LETTERS, ""),
        dead("parked"),
        (DEAD_LETTERS, ""),
    ];
    assert_eq!(bench.fates()[1..], fates);
    assert_eq!(bench.delivery.parked_keys(), 1);
    assert!(
        !bench
            .exceptions
            .iter()
            .any(|e| matches!(e, Exception::Released { .. }))
    );
}

#[test]
fn a_released_key_goes_on_behind_its_parked_events() {
    let mut bench = Bench::new(parking(), &Resume::default());
    bench.control_relation();
    bench.begin(10).unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.control(r#"{"command":"dlq-release","service":"outbox","key":"t1"}"#);
    bench.wait();
    bench.land(0);
    bench.redeliver("transfers.settled", 0);
    bench.delivery.handle_served(bench.now);
    bench.poll();
    bench.insert();
    bench.commit(10);
    bench.land(1);
    bench.wait();
    assert_eq!(bench.fates()[1..], [GOOD, (DEAD_LETTERS, ""), GOOD]);
    assert!(
        bench
            .exceptions
            .iter()
            .any(|e| matches!(e, Exception::Released { .. }))
    );
}

#[test]
fn a_letter_that_is_not_the_event_is_never_published_but_may_be_dropped() {
    let mut bench = Bench::fresh();
    bench.control_relation();
    bench.begin(10).unwrap();
    bench.control(r#"{"command":"dlq-replay","filter":{}}"#);
    let stub = Entry {
        is_stub: true,
        ..entry("transfers.settled")
    };
    let unmappable = Entry {
        class: "mapping/null-type",
        ..entry("transfers.settled")
    };
    for entry in [stub.clone(), unmappable, entry("")] {
        bench.redeliver_entry(entry, 0, false);
    }
    assert!(bench.events.is_empty(), "{:?}", bench.events);
    bench.redeliver_entry(stub, 0, true);
    bench.delivery.handle_served(bench.now);
    bench.commit(10);
    bench.wait();
    assert_eq!(bench.fates(), [(DEAD_LETTERS, "")]);
}

#[test]
fn letters_of_a_parked_key_are_released_and_not_replayed() {
    let mut bench = Bench::new(parking(), &Resume::default());
    bench.control_relation();
    bench.begin(10).unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.control(r#"{"command":"dlq-replay","filter":{}}"#);
    bench.wait();
    bench.land(0);
    bench.redeliver("transfers.settled", 0);
    bench.delivery.handle_served(bench.now);
    bench.commit(10);
    bench.wait();
    assert_eq!(bench.fates(), [dead("mapping/null-type")]);
}

#[test]
fn a_row_of_a_parked_key_that_is_no_event_says_so() {
    let mut bench = Bench::new(parking(), &Resume::default());
    bench.begin(10).unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.insert();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.commit(10);
    bench.idle();
    assert_eq!(
        bench.fates(),
        [
            dead("mapping/null-type"),
            dead("parked"),
            dead("mapping/null-type")
        ]
    );
}

#[test]
fn a_command_that_is_not_understood_is_passed_on_and_changes_nothing() {
    let mut bench = Bench::fresh();
    bench.control_relation();
    bench.begin(10).unwrap();
    bench.control(r#"{"command":"explode"}"#);
    assert!(bench.served[0].command.is_err());
    bench.delivery.handle_served(bench.now);
    bench.commit(10);
    bench.wait();
    assert!(bench.events.is_empty());
}

fn fed_relation() -> Relation {
    let column = |name: &str, type_oid| Column {
        flags: 0,
        name: name.into(),
        type_oid,
        type_modifier: -1,
    };
    Relation {
        oid: 0,
        namespace: "public".into(),
        name: "outbox".into(),
        replica_identity: b'd',
        columns: vec![
            column("id", oid::TEXT),
            column("event_type", oid::TEXT),
            column("payload", oid::JSONB),
        ],
    }
}

fn feed_row(bench: &mut Bench, ordinal: u64) {
    let row = [
        Value::Text(b"e1"),
        Value::Text(b"transfers.settled"),
        Value::Text(b"{}"),
    ];
    let mut bytes = Vec::new();
    encode::insert(&mut bytes, 1, &row);
    let Message::Insert(insert) = parse(&bytes).unwrap() else {
        panic!("no insert");
    };
    let fed = FedRow {
        table: TableId(0),
        ordinal,
        time: PgTimestamp(0),
        tuple: insert.tuple,
    };
    bench.delivery.handle_fed_row(&fed, bench.now).unwrap();
    bench.poll();
}

#[test]
fn a_feed_goes_before_the_stream_and_is_taken_up_where_it_stood() {
    let feed = FeedProgress {
        request: "r".into(),
        done: 3,
        controlled: false,
    };
    let resume = Resume {
        feed: Some(feed),
        ..Resume::default()
    };
    let mut bench = Bench::new(settings(), &resume);
    bench.idle();
    assert!(!bench.delivery.wants_input());
    assert_eq!(bench.feeds, [("r".to_owned(), 3)]);
    bench.delivery.handle_fed_relation(&fed_relation()).unwrap();
    feed_row(&mut bench, 4);
    feed_row(&mut bench, 6);
    bench.land(0);
    bench.wait();
    assert_eq!(bench.fates(), [GOOD, GOOD]);
    assert_eq!(bench.last_checkpoint().feed.as_ref().unwrap().done, 6);
    bench.land(1);
    bench.delivery.handle_feed_end(bench.now);
    bench.poll();
    assert!(bench.delivery.wants_input());
    bench.transaction(20, 1);
    bench.idle();
    assert_eq!(bench.last_checkpoint().feed, None);
}

#[test]
fn a_replay_that_an_earlier_session_finished_is_not_carried_out_again() {
    let request = "00000000-0000-0000-0000-00000000000a";
    let feed = FeedProgress {
        request: request.into(),
        done: 5,
        controlled: true,
    };
    let resume = Resume {
        feed: Some(feed),
        ..Resume::default()
    };
    let mut bench = Bench::new(settings(), &resume);
    bench.idle();
    bench.delivery.handle_feed_end(bench.now);
    bench.poll();
    bench.control_relation();
    bench.begin(10).unwrap();
    bench.control(r#"{"command":"replay"}"#);
    assert!(bench.delivery.wants_input());
    assert_eq!(bench.feeds.len(), 1);
    bench.commit(10);
    bench.wait();
    assert_eq!(bench.last_checkpoint().feed, None);
}

#[test]
fn nothing_acknowledged_is_taken_for_written() {
    let mut bench = Bench::new(writing_back(), &Resume::default());
    bench.transaction(10, 1);
    bench.idle();
    bench.delivery.handle_acknowledged(WindowId(0), bench.now);
    bench.poll();
    assert!(bench.marks.is_empty());
}
