//! The state machine, driven by hand: what operators ask for, and feeds.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;

use bench::control::entry;
use bench::{Bench, DEAD_LETTERS, GOOD, column, dead, parking, settings};
use delivery::{Answer, Exception, FedRow, FeedProgress, Resume};
use envelope::TableId;
use envelope::dead_letter::Entry;
use pgoutput::{Message, PgTimestamp, Relation, Value, encode, oid, parse};

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
    let held = bench.produced.iter().filter_map(|(_, _, c)| c.as_ref());
    let held: Vec<_> = held.map(|checkpoint| checkpoint.exceptions).collect();
    assert_eq!(held, [Some(1), Some(1), Some(0)], "as they are recorded");
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
