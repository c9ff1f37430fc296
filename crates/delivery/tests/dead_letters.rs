//! The state machine, driven by hand: what can't be published, and parked keys.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;

use bench::{Bench, DEAD_LETTERS, GOOD, dead, lessons, parking, settings, with};
use delivery::{
    Answer, Class, Exceptions, Halt, OnDeadLetter, Refusal, RefusalCause, RefusedEvent, Resume,
    Settings,
};

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
    let mut exceptions = Exceptions::default();
    for exception in &bench.exceptions {
        assert!(exceptions.take(&exception.value().unwrap()));
    }
    assert_eq!((exceptions.parked.len(), exceptions.dead.len()), (1, 2));
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
        let halt = bench.refuse("transfers.settled", RefusalCause::Contents);
        assert!(halt.is_none());
        lessons = bench.delivery.into_lessons();
    };
    assert_eq!(class, "refused");
    assert_eq!(sizes, [4, 2, 1, 1]);
}

#[test]
fn an_event_that_the_brokers_name_is_found_at_once() {
    let mut bench = Bench::fresh();
    bench.transaction(10, 4);
    bench.idle();
    let refusal = naming("0/A:2");
    assert!(bench.delivery.handle_refused(&refusal, bench.now).is_none());
    let lessons = bench.delivery.into_lessons();
    let mut next = Bench::after(lessons, settings(), &Resume::default());
    next.transaction(10, 4);
    next.idle();
    assert_eq!(next.fates(), [GOOD, GOOD, dead("refused"), GOOD]);
    assert_eq!(next.sizes(), [4], "all in one window");
}

#[test]
fn a_dead_letter_that_is_refused_as_well_stops_the_pipeline() {
    let mut bench = Bench::fresh();
    bench.begin(10).unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.commit(10);
    bench.idle();
    assert_eq!(bench.fates(), [dead("mapping/null-type")]);
    let halt = bench.refuse(DEAD_LETTERS, RefusalCause::Contents);
    assert!(matches!(halt, Some(Halt::DeadLetterTopic { .. })));
}

#[test]
fn a_topic_that_refuses_though_probes_find_it_usable_is_to_blame_and_not_its_events() {
    let mut lessons = lessons(2);
    for attempt in 1..=3 {
        let mut bench = Bench::after(lessons, settings(), &Resume::default());
        bench.transaction(10, 1);
        bench.idle();
        assert_eq!(bench.fates(), [GOOD], "{attempt}");
        let halt = bench.refuse("transfers.settled", RefusalCause::TopicDenied);
        assert!(halt.is_none());
        lessons = bench.delivery.into_lessons();
    }
    let mut bench = Bench::after(lessons, settings(), &Resume::default());
    bench.transaction(10, 1);
    bench.idle();
    assert_eq!(bench.fates(), [dead("topic-denied")]);
    bench.land(0);
    // Later it is tried again.
    bench.pass(std::time::Duration::from_secs(11));
    bench.transaction(20, 1);
    bench.idle();
    bench.land(1);
    bench.transaction(30, 1);
    bench.idle();
    bench.land(2);
    assert_eq!(bench.fates()[1..], [dead("topic-denied"), GOOD]);
}

#[test]
fn what_a_topic_takes_makes_up_for_what_it_refused_before() {
    let mut lessons = lessons(1);
    for _ in 0..4 {
        let mut bench = Bench::after(lessons, settings(), &Resume::default());
        bench.transaction(10, 1);
        bench.idle();
        bench.land(0);
        bench.transaction(20, 1);
        bench.idle();
        assert_eq!(bench.fates(), [GOOD, GOOD]);
        assert!(
            bench
                .refuse("transfers.settled", RefusalCause::TopicMissing)
                .is_none()
        );
        lessons = bench.delivery.into_lessons();
    }
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

/// What the brokers say who name one event.
fn naming(position: &str) -> Refusal {
    Refusal {
        topic: "transfers.settled".into(),
        cause: RefusalCause::Contents,
        reason: "some are not valid".into(),
        events: vec![RefusedEvent {
            position: position.parse().unwrap(),
            id: "59a42efd-b015-44a9-9dde-cb36d9002425".into(),
            reason: "a compacted topic takes no record without a key".into(),
        }],
    }
}

#[test]
fn where_nothing_may_die_a_refused_event_is_tried_again() {
    let mut halting = settings();
    halting.tables[0].on_dead_letter = OnDeadLetter::Halt;
    let mut bench = Bench::new(halting.clone(), &Resume::default());
    bench.transaction(10, 1);
    bench.idle();
    let refusal = naming("0/A:0");
    assert!(bench.delivery.handle_refused(&refusal, bench.now).is_none());
    let mut next = Bench::after(
        bench.delivery.into_lessons(),
        halting.clone(),
        &Resume::default(),
    );
    let _ = next.begin(10);
    assert!(matches!(
        next.insert_payload("{}"),
        Err(Halt::Refused { .. })
    ));
    // Its cause may be repaired by now.
    let mut last = Bench::after(next.delivery.into_lessons(), halting, &Resume::default());
    last.transaction(10, 1);
    last.idle();
    assert_eq!(last.fates(), [GOOD]);
}
