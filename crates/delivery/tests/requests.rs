//! The state machine, driven by hand: what operators ask for.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;

use bench::control::entry;
use bench::{Bench, DEAD_LETTERS, GOOD, dead, parking};
use delivery::{Answer, Exception, Resume};
use envelope::dead_letter::Entry;

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
    assert_eq!(held, [Some(2), Some(2), Some(1)], "as they are recorded");
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
fn a_letter_of_a_table_that_is_not_served_any_more_may_be_dropped_but_not_published() {
    let mut bench = Bench::new(parking(), &Resume::default());
    bench.control_relation();
    bench.begin(10).unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.control(r#"{"command":"dlq-drop","filter":{}}"#);
    bench.wait();
    bench.land(0);
    let orphan = Entry {
        table: "public.gone",
        ..entry("transfers.settled")
    };
    bench.redeliver_entry(orphan.clone(), 7, false);
    assert_eq!(bench.fates(), [dead("mapping/null-type")]);
    bench.redeliver_entry(orphan, 7, true);
    bench.delivery.handle_served(bench.now);
    bench.commit(10);
    bench.wait();
    assert_eq!(bench.fates()[1..], [(DEAD_LETTERS, "")]);
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
