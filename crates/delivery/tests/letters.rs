//! The state machine, driven by hand: dead letters that are published again, through sessions that
//! end early. Each of these was found by the simulation.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;

use bench::control::entry;
use bench::{Bench, DEAD_LETTERS, GOOD, lessons, parking, position, settings, writing_back};
use delivery::{
    Answer, Exception, Exceptions, Halt, Lessons, Outcome, RefusalCause, Resume, Settings,
};
use envelope::dead_letter::Entry;
use pgoutput::Lsn;

const REPLAY: &str = r#"{"command":"dlq-replay","filter":{}}"#;
const RELEASE: &str = r#"{"command":"dlq-release","service":"outbox","key":"t1"}"#;

/// What a session starts with that comes after these exceptions.
fn resume(recorded: &[Exception], index: u64) -> Resume {
    let mut exceptions = Exceptions::default();
    let mut newest = std::collections::BTreeMap::new();
    for exception in recorded {
        newest.insert(exception.key(), exception.value());
    }
    for value in newest.values().flatten() {
        assert!(exceptions.take(value));
    }
    Resume {
        position: Some(position(10, index, false)),
        confirmed_up_to: Lsn::from(10),
        slot_confirmed: Lsn::from(5),
        exceptions,
        ..Resume::default()
    }
}

#[test]
fn an_event_that_proves_too_large_when_its_topic_answers_is_dead() {
    let mut bench = Bench::fresh();
    let small = Answer::Usable { max_bytes: 400 };
    bench.unusable = vec![("transfers.settled".into(), small)];
    bench.begin(10).unwrap();
    let payload = format!("\"{}\"", "x".repeat(1000));
    bench.insert_payload(&payload).unwrap();
    bench.commit(10);
    bench.wait();
    assert!(bench.stopped.is_none(), "{:?}", bench.stopped);
    assert_eq!(bench.fates(), [(DEAD_LETTERS, "too-large")]);
}

#[test]
fn a_parked_event_that_is_unmappable_is_dead_for_that() {
    let mut bench = Bench::new(parking(), &Resume::default());
    bench.begin(10).unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.commit(10);
    bench.wait();
    let unmappable = (DEAD_LETTERS, "mapping/null-type");
    assert_eq!(bench.fates(), [unmappable, unmappable]);
}

#[test]
fn what_holds_no_event_is_not_published_and_stays_open() {
    let mut bench = Bench::fresh();
    bench.control_relation();
    bench.begin(10).unwrap();
    bench.control(REPLAY);
    bench.wait();
    let stub = Entry {
        is_stub: true,
        ..entry("transfers.settled")
    };
    let raw = Entry {
        class: "mapping/topic-not-allowed",
        ..entry("secret.topic")
    };
    for letter in [stub, entry(""), raw] {
        bench.redeliver_entry(letter, 3, false);
    }
    bench.delivery.handle_served(bench.now);
    bench.commit(10);
    bench.wait();
    assert!(bench.events.is_empty(), "{:?}", bench.events);
}

#[test]
fn a_key_is_not_released_past_what_holds_no_event() {
    let mut bench = Bench::new(parking(), &Resume::default());
    bench.control_relation();
    bench.begin(10).unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.control(RELEASE);
    bench.wait();
    bench.land(0);
    bench.redeliver("", 0);
    bench.redeliver("transfers.settled", 1);
    bench.delivery.handle_served(bench.now);
    bench.wait();
    assert_eq!(bench.fates()[1], (DEAD_LETTERS, "parked"));
    assert_eq!(bench.delivery.parked_keys(), 1);
}

#[test]
fn what_comes_before_such_a_letter_is_published_all_the_same() {
    let mut bench = Bench::new(parking(), &Resume::default());
    bench.control_relation();
    bench.begin(10).unwrap();
    bench.control(RELEASE);
    bench.wait();
    bench.unusable = vec![("transfers.settled".into(), Answer::Unanswered)];
    bench.redeliver("transfers.settled", 0);
    bench.redeliver("", 1);
    bench.redeliver("transfers.settled", 2);
    bench.unusable.clear();
    bench.delivery.handle_served(bench.now);
    bench.wait();
    let fates = [
        ("transfers.settled", ""),
        (DEAD_LETTERS, ""),
        (DEAD_LETTERS, "parked"),
        (DEAD_LETTERS, ""),
    ];
    assert_eq!(bench.fates(), fates);
}

#[test]
fn a_dead_letter_that_the_brokers_refuse_is_dead_again() {
    let mut lessons = lessons(0);
    for _ in 0..3 {
        let mut bench = Bench::after(lessons, settings(), &Resume::default());
        bench.control_relation();
        bench.begin(10).unwrap();
        bench.control(REPLAY);
        bench.wait();
        bench.redeliver("transfers.settled", 7);
        bench.wait();
        if bench.fates()[0] == (DEAD_LETTERS, "refused") {
            return;
        }
        let halt = bench.refuse("transfers.settled", RefusalCause::Contents);
        assert!(halt.is_none());
        lessons = bench.delivery.into_lessons();
    }
    panic!("it is tried again for ever");
}

#[test]
fn what_is_dead_again_names_the_first_letter_of_its_event() {
    let denied = Some(("transfers.gone", Answer::Denied));
    let mut bench = replaying(lessons(0), denied);
    let second = Entry {
        origin: Some((2, 3)),
        ..entry("transfers.gone")
    };
    bench.redeliver("transfers.gone", 7);
    bench.land(0);
    bench.redeliver_entry(second, 9, false);
    bench.land(1);
    bench.delivery.handle_served(bench.now);
    bench.insert_row("", "t2", "{}").unwrap();
    bench.commit(10);
    bench.idle();
    assert_eq!(bench.origins, ["0:7", "2:3", ""]);
}

/// A session that publishes one dead letter again.
fn replaying(lessons: Lessons, unusable: Option<(&str, Answer)>) -> Bench {
    let mut bench = Bench::after(lessons, settings(), &Resume::default());
    let unusable = unusable.into_iter();
    bench.unusable = unusable.map(|(topic, a)| (topic.to_owned(), a)).collect();
    bench.control_relation();
    bench.begin(10).unwrap();
    bench.control(REPLAY);
    bench.wait();
    bench
}

#[test]
fn no_event_is_to_blame_for_a_dead_letter_topic_that_is_denied_meanwhile() {
    let mut bench = replaying(lessons(1), None);
    bench.redeliver("transfers.settled", 7);
    bench.wait();
    assert_eq!(bench.fates(), [GOOD, (DEAD_LETTERS, "")]);
    assert!(
        bench
            .refuse(DEAD_LETTERS, RefusalCause::TopicDenied)
            .is_none()
    );

    let denied = Some((DEAD_LETTERS, Answer::Denied));
    let mut bench = replaying(bench.delivery.into_lessons(), denied);
    let halt = bench.try_redeliver("transfers.settled", 7).unwrap_err();
    assert!(matches!(halt, Halt::DeadLetterTopic { topic, .. } if topic == DEAD_LETTERS));
    bench.delivery.handle_drain(bench.now);
    bench.poll();
    assert!(bench.events.is_empty(), "{:?}", bench.events);

    let mut bench = replaying(bench.delivery.into_lessons(), None);
    bench.redeliver("transfers.settled", 7);
    bench.wait();
    assert_eq!(bench.fates(), [GOOD, (DEAD_LETTERS, "")]);
}

#[test]
fn no_letter_is_handed_in_before_it_is_known_whether_its_topic_takes_what_becomes_of_it() {
    let bench = replaying(lessons(1), Some((DEAD_LETTERS, Answer::Unanswered)));
    assert_eq!(bench.served.len(), 1);
    assert!(!bench.delivery.wants_more());
    assert!(replaying(lessons(1), None).delivery.wants_more());
}

#[test]
fn no_event_is_to_blame_for_what_is_said_of_its_letter() {
    let mut bench = replaying(lessons(0), None);
    bench.redeliver("transfers.settled", 7);
    bench.wait();
    let halt = bench.refuse(DEAD_LETTERS, RefusalCause::Contents);
    assert!(matches!(halt, Some(Halt::DeadLetterTopic { .. })));
}

#[test]
fn rows_told_of_again_hold_the_slot_though_a_request_comes_behind_them() {
    let mut bench = Bench::new(writing_back(), &resume(&[], 1));
    bench.control_relation();
    bench.begin(10).unwrap();
    bench.insert();
    bench.control(REPLAY);
    bench.redeliver("transfers.settled", 7);
    bench.delivery.handle_served(bench.now);
    bench.wait();
    bench.land(0);
    bench.commit(10);
    bench.wait();
    bench.keepalive(20, true);
    bench.land(1);
    assert_eq!(bench.confirmed, [5]);
    let ids: Vec<_> = bench.marks.iter().map(|(id, _)| id.0).collect();
    assert_eq!(ids, [0, 1], "the row that was published before comes first");
}

#[test]
fn the_row_of_a_published_dead_letter_is_told_by_the_next_session() {
    let mut first = Bench::new(writing_back(), &Resume::default());
    first.control_relation();
    first.begin(10).unwrap();
    first.control(REPLAY);
    first.wait();
    first.redeliver("transfers.settled", 7);
    first.delivery.handle_served(first.now);
    first.wait();
    first.land(0);
    // The session ends before the row is told.
    let mut next = Bench::new(writing_back(), &resume(&first.exceptions, 1));
    next.control_relation();
    next.begin(10).unwrap();
    next.idle();
    let (id, marks) = next.marks.pop().unwrap();
    let outcomes: Vec<_> = marks.iter().map(|m| (m.id.to_owned(), m.outcome)).collect();
    assert_eq!(outcomes, [("e1".to_owned(), Outcome::Revived)]);
    next.delivery.handle_written_back(id, marks, next.now);
    next.control(REPLAY);
    next.commit(10);
    next.transaction(20, 1);
    next.idle();
    let told = |e: &Exception| matches!(e, Exception::Told(row) if row.id == "e1");
    assert!(next.exceptions.iter().any(told));
}

#[test]
fn a_release_that_is_carried_out_again_does_not_free_what_it_has_parked_again() {
    let mut first = Bench::new(parking(), &Resume::default());
    first.unusable = vec![("transfers.gone".into(), Answer::Missing)];
    first.control_relation();
    first.begin(10).unwrap();
    first.insert_row("transfers.gone", "t1", "{}").unwrap();
    first.control(RELEASE);
    first.wait();
    first.land(0);
    first.redeliver("transfers.gone", 0);
    first.wait();
    first.land(1);
    // The session ends; what is dead again is not handed in again, but what is parked behind it.
    let mut next = Bench::new(parking(), &resume(&first.exceptions, 1));
    next.control_relation();
    next.begin(10).unwrap();
    next.insert_row("transfers.gone", "t1", "{}").unwrap();
    next.control(RELEASE);
    next.wait();
    next.redeliver("transfers.settled", 1);
    next.delivery.handle_served(next.now);
    next.wait();
    assert_eq!(next.fates()[0], (DEAD_LETTERS, "parked"));
    assert_eq!(next.delivery.parked_keys(), 1);
}

#[test]
fn a_session_that_is_stopped_is_drained_once_what_is_out_has_landed() {
    let settings = Settings {
        max_pending_marks: 1,
        ..writing_back()
    };
    let mut bench = Bench::new(settings, &Resume::default());
    for (window, lsn) in [10, 20].into_iter().enumerate() {
        bench.transaction(lsn, 1);
        bench.idle();
        bench.land(window as u64);
    }
    bench.transaction(30, 1);
    let (id, marks) = bench.marks.pop().unwrap();
    bench.delivery.handle_written_back(id, marks, bench.now);
    bench.poll();
    assert!(matches!(bench.stopped, Some(Halt::WriteBackBehind)));
    bench.delivery.handle_drain(bench.now);
    bench.poll();
    assert!(bench.delivery.is_drained());
}

#[test]
fn rows_of_a_restored_server_hold_the_slot_below_what_the_checkpoint_covers() {
    let resume = Resume {
        confirmed_up_to: Lsn::from(100),
        slot_confirmed: Lsn::from(5),
        ..Resume::default()
    };
    let mut bench = Bench::new(writing_back(), &resume);
    bench.transaction(20, 1);
    bench.keepalive(150, true);
    bench.idle();
    bench.land(0);
    assert_eq!(bench.confirmed, [5]);
}
