//! The state machine, driven by hand: what the tables are told of their rows.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;

use std::time::Duration;

use bench::{Bench, GOOD, position, writing_back};
use delivery::{
    Exception, Exceptions, Halt, MarksId, Outcome, Recording, Resume, Settings, WindowId,
};
use pgoutput::Lsn;

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
    let position = position(20, 2, true);
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

/// Hands in rows of the open transaction while they are wanted, writes marks back when they are not.
/// How many rows were written back; never more than `max` are in the tables' hands.
fn insert_bounded(bench: &mut Bench, rows: usize, max: usize) -> usize {
    let mut written = 0;
    for _ in 0..rows {
        while !bench.delivery.wants_input() {
            written += write_one_back(bench);
        }
        bench.insert();
        let under_way: usize = bench.marks.iter().map(|(_, marks)| marks.len()).sum();
        assert!(under_way <= max, "{under_way}");
    }
    written
}

fn write_one_back(bench: &mut Bench) -> usize {
    let (id, marks) = bench.marks.remove(0);
    let rows = marks.len();
    bench.delivery.handle_written_back(id, marks, bench.now);
    bench.poll();
    rows
}

fn write_all_back(bench: &mut Bench) -> usize {
    let mut rows = 0;
    while !bench.marks.is_empty() {
        rows += write_one_back(bench);
    }
    rows
}

#[test]
fn the_rows_of_a_huge_transaction_are_written_back_again_some_at_a_time() {
    for (published, is_complete) in [(100, true), (60, false)] {
        some_at_a_time(7, 3, (published, is_complete));
        some_at_a_time(1, 0, (published, is_complete));
    }
}

/// With a transaction of so many rows before it.
fn some_at_a_time(max: usize, before: usize, (published, is_complete): (u64, bool)) {
    let settings = Settings {
        max_pending_marks: max,
        ..writing_back()
    };
    let resume = Resume {
        position: Some(position(20, published, is_complete)),
        confirmed_up_to: Lsn::from(if is_complete { 25 } else { 18 }),
        slot_confirmed: Lsn::from(5),
        ..Resume::default()
    };
    let mut bench = Bench::new(settings, &resume);
    bench.transaction(10, before);
    bench.begin(20).unwrap();
    let published = usize::try_from(published).unwrap();
    let mut written = insert_bounded(&mut bench, published, max);
    assert!(written > published - 3 * max, "{written}");
    bench.idle();
    assert!(
        bench.confirmed.iter().all(|lsn| *lsn <= 18),
        "the slot stays before it"
    );
    written += write_all_back(&mut bench);
    for _ in published..100 {
        bench.insert();
    }
    bench.commit(20);
    bench.idle();
    written += write_all_back(&mut bench);
    assert_eq!(written, before + published);
    assert_eq!(bench.fates().len(), 100 - published);
    if is_complete {
        assert_eq!(bench.confirmed.last(), Some(&25));
    }
    assert!(bench.stopped.is_none());
}

/// Rows that may wait to be marked.
const MAX: usize = 7;

/// A slot that is confirmed far below the checkpoint.
fn far_behind() -> (Settings, Resume) {
    let settings = Settings {
        max_pending_marks: MAX,
        ..writing_back()
    };
    let resume = Resume {
        position: Some(position(50, 1, true)),
        confirmed_up_to: Lsn::from(55),
        slot_confirmed: Lsn::from(5),
        ..Resume::default()
    };
    (settings, resume)
}

#[test]
fn a_huge_transaction_before_the_checkpoints_one_is_left_to_a_session_that_knows_it() {
    let (settings, resume) = far_behind();
    let mut first = Bench::new(settings.clone(), &resume);
    first.begin(20).unwrap();
    assert_eq!(
        insert_bounded(&mut first, 100, MAX),
        0,
        "it may be a restored server"
    );
    first.commit(20);
    first.transaction(50, 1);
    first.idle();
    assert!(first.marks.is_empty(), "what was dropped comes first");
    assert!(matches!(first.stopped, Some(Halt::WriteBackBehind)));
    assert_eq!(first.confirmed, [5]);

    let mut lessons = first.delivery.into_lessons();
    for (lsn, rows) in [(21, 0), (20, 100)] {
        let mut second = Bench::after(lessons, settings.clone(), &resume);
        // The slot may not have come so far.
        second.transaction(10, 2);
        second.begin(lsn).unwrap();
        let mut written = insert_bounded(&mut second, 100, MAX);
        second.commit(lsn);
        written += write_all_back(&mut second);
        let known = if rows > 0 { 2 + rows } else { 0 };
        assert_eq!(written, known, "another transaction is not known");
        assert_eq!(second.confirmed, [5]);
        if rows > 0 {
            second.transaction(50, 1);
            second.idle();
            assert_eq!(write_all_back(&mut second), 1);
            assert_eq!(second.confirmed, [5, 25, 55]);
            assert!(second.stopped.is_none());
        }
        lessons = second.delivery.into_lessons();
    }
}

#[test]
fn several_huge_transactions_are_left_to_one_session_that_knows_them_all() {
    // From one row more than fit on.
    for rows in [8, 9, 100] {
        left_to_one_session(rows);
    }
}

fn left_to_one_session(rows: usize) {
    let (settings, resume) = far_behind();
    let huge = |bench: &mut Bench| {
        let mut written = 0;
        for lsn in [20, 30] {
            bench.begin(lsn).unwrap();
            written += insert_bounded(bench, rows, MAX);
            bench.commit(lsn);
        }
        written
    };
    let mut first = Bench::new(settings.clone(), &resume);
    assert_eq!(huge(&mut first), 0);
    first.transaction(50, 1);
    first.idle();
    assert!(matches!(first.stopped, Some(Halt::WriteBackBehind)));

    // Nothing that the first one has confirmed need have arrived.
    let mut second = Bench::after(first.delivery.into_lessons(), settings, &resume);
    let mut written = huge(&mut second);
    second.transaction(50, 1);
    second.idle();
    written += write_all_back(&mut second);
    assert_eq!(written, 2 * rows + 1);
    assert!(second.stopped.is_none());
    assert_eq!(second.confirmed.last(), Some(&55));
}

#[test]
fn rows_that_can_not_be_written_back_hold_up_the_events_behind_them_only_for_a_while() {
    let settings = Settings {
        max_pending_marks: 1,
        ..writing_back()
    };
    let position = position(60, 1, true);
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
fn what_is_skipped_is_not_taken_for_published_until_the_checkpoints_transaction_has_come() {
    let position = position(50, 1, true);
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
fn nothing_acknowledged_is_taken_for_written() {
    let mut bench = Bench::new(writing_back(), &Resume::default());
    bench.transaction(10, 1);
    bench.idle();
    bench.delivery.handle_acknowledged(WindowId(0), bench.now);
    bench.poll();
    assert!(bench.marks.is_empty());
}

#[test]
fn beside_the_events_a_row_says_failed_only_once_it_is_recorded_that_its_event_is_dead() {
    let settings = Settings {
        recording: Recording::Beside,
        ..writing_back()
    };
    let mut bench = Bench::new(settings, &Resume::default());
    bench.transaction(10, 1);
    bench.idle();
    bench.acknowledge(0);
    assert_eq!(write_all_back(&mut bench), 1, "a good one need not wait");
    bench.begin(20).unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.commit(20);
    bench.transaction(30, 1);
    bench.idle();
    // The record under way does not speak of the dead one.
    assert_eq!(bench.records.len(), 1);
    bench.acknowledge(1);
    assert!(bench.marks.is_empty());
    bench.delivery.handle_recorded(bench.now);
    bench.poll();
    assert!(
        matches!(bench.exceptions[..], [Exception::Dead(_)]),
        "at once"
    );
    assert!(bench.marks.is_empty());
    bench.transaction(40, 1);
    bench.idle();
    bench.acknowledge(2);
    assert!(bench.marks.is_empty(), "marks keep their order");
    bench.delivery.handle_recorded(bench.now);
    bench.poll();
    let ids: Vec<_> = bench.marks.iter().map(|(id, _)| id.0).collect();
    assert_eq!(ids, [1, 2]);
    assert_eq!(write_all_back(&mut bench), 3);
}

/// A dead letter, and the exceptions that it leaves.
fn buried(lsn: u64) -> Exceptions {
    let mut bench = Bench::new(writing_back(), &Resume::default());
    bench.begin(lsn).unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.commit(lsn);
    bench.idle();
    let mut exceptions = Exceptions::default();
    for exception in &bench.exceptions {
        assert!(exceptions.take(&exception.value().unwrap()));
    }
    assert_eq!(exceptions.dead.len(), 1);
    exceptions
}

#[test]
fn a_dead_letter_of_a_voided_position_says_nothing_of_the_row_that_is_there_now() {
    let exceptions = buried(20);
    let place = exceptions.dead[0].position;
    let resume = Resume {
        confirmed_up_to: Lsn::from(20),
        floor: Lsn::from(20),
        slot_confirmed: Lsn::from(5),
        void_from: Some(Lsn::from(20)),
        exceptions,
        ..Resume::default()
    };
    let mut bench = Bench::new(writing_back(), &resume);
    // Another row at the same place, which can't be published either.
    bench.begin(20).unwrap();
    bench.insert_row("", "t2", "{}").unwrap();
    bench.commit(20);
    bench.idle();
    let told: Vec<_> = bench.exceptions.iter().collect();
    assert!(
        matches!(told[..], [Exception::Settled(old), Exception::Dead(new)]
            if *old == place && new.position == place),
        "{told:?}"
    );
}

#[test]
fn a_new_slot_knows_nothing_of_the_dead_letters_of_the_one_before() {
    let exceptions = buried(20);
    let place = exceptions.dead[0].position;
    let genesis = Resume {
        confirmed_up_to: Lsn::from(15),
        slot_confirmed: Lsn::from(15),
        exceptions,
        ..Resume::default()
    };
    let mut bench = Bench::new(writing_back(), &genesis);
    bench.transaction(20, 1);
    bench.idle();
    assert_eq!(bench.exceptions, [Exception::Settled(place)]);
    bench.land(0);
    let outcomes: Vec<_> = bench.marks[0].1.iter().map(|mark| mark.outcome).collect();
    assert_eq!(outcomes, [Outcome::Sent]);
}

#[test]
fn a_row_that_may_be_dead_is_never_marked_sent() {
    let mut first = Bench::new(
        writing_back(),
        &Resume {
            exceptions: buried(20),
            position: Some(position(20, 1, true)),
            slot_confirmed: Lsn::from(30),
            confirmed_up_to: Lsn::from(30),
            ..Resume::default()
        },
    );
    // The slot has been confirmed beyond the dead letter, so it is not remembered any more.
    first.transaction(40, 1);
    first.idle();
    let is_settled = |e: &Exception| matches!(e, Exception::Settled(_));
    assert!(first.exceptions.iter().any(is_settled));
    let settled_below = first.last_checkpoint().settled_below;
    assert_eq!(settled_below, Lsn::from(21));

    // A promoted standby has an older slot.
    let mut bench = Bench::new(
        writing_back(),
        &Resume {
            position: Some(position(40, 1, true)),
            slot_confirmed: Lsn::from(5),
            confirmed_up_to: Lsn::from(45),
            settled_below,
            ..Resume::default()
        },
    );
    for lsn in [10, 20, 30, 40] {
        bench.transaction(lsn, 1);
    }
    bench.idle();
    let rows: Vec<_> = bench.marks.iter().map(|(_, marks)| marks.len()).collect();
    assert_eq!(rows, [2], "those of 30 and 40");
    let (id, marks) = bench.marks.pop().unwrap();
    bench.delivery.handle_written_back(id, marks, bench.now);
    bench.transaction(50, 1);
    bench.idle();
    assert_eq!(bench.last_checkpoint().settled_below, settled_below);
}

#[test]
fn a_dead_letter_of_a_time_without_write_back_is_known_to_a_time_with_it() {
    let mut bench = Bench::fresh();
    bench.begin(20).unwrap();
    bench.insert_row("", "t1", "{}").unwrap();
    bench.commit(20);
    bench.idle();
    assert!(matches!(bench.exceptions[..], [Exception::Dead(_)]));
}
