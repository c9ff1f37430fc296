//! The state machine, driven by hand: windows, commits, checkpoints.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;

use std::time::Duration;

use bench::{Bench, position, settings};
use delivery::{Halt, Recording, Resume, Settings, WindowId};
use envelope::RecordBatch;
use pgoutput::Lsn;

#[test]
fn a_lonely_event_goes_out_as_soon_as_the_source_is_idle() {
    let mut bench = Bench::fresh();
    bench.transaction(10, 1);
    assert!(bench.produced.is_empty(), "more may be at hand");
    bench.idle();
    assert_eq!(bench.sizes(), [1]);
    bench.acknowledge(0);
    assert_eq!(bench.commits, [WindowId(0)]);
    assert!(bench.confirmed.is_empty(), "acknowledged is not committed");
    bench.committed(0);
    assert_eq!(bench.confirmed, [15]);
    assert!(bench.delivery.is_caught_up());
}

#[test]
fn what_arrives_while_a_window_is_produced_forms_the_next_one() {
    let mut bench = Bench::fresh();
    bench.transaction(10, 1);
    bench.idle();
    for lsn in [20, 30, 40] {
        bench.transaction(lsn, 2);
        bench.idle();
    }
    assert_eq!(
        bench.sizes(),
        [1],
        "the next window waits for the acknowledgement"
    );
    bench.acknowledge(0);
    assert_eq!(bench.sizes(), [1, 6]);
}

#[test]
fn a_window_commits_only_when_the_one_before_is_known_to_be_committed() {
    let mut bench = Bench::fresh();
    bench.transaction(10, 1);
    bench.idle();
    bench.acknowledge(0);
    bench.transaction(20, 1);
    bench.idle();
    bench.acknowledge(1);
    assert_eq!(bench.commits, [WindowId(0)]);
    bench.committed(0);
    assert_eq!(bench.commits, [WindowId(0), WindowId(1)]);
    assert_eq!(bench.confirmed, [15]);
    bench.committed(1);
    assert_eq!(bench.confirmed, [15, 25]);
}

#[test]
fn the_ring_bounds_the_windows_in_flight() {
    let mut bench = Bench::fresh();
    for (window, lsn) in [(0, 10), (1, 20)] {
        bench.transaction(lsn, 1);
        bench.idle();
        bench.acknowledge(window);
    }
    bench.transaction(30, 1);
    bench.idle();
    assert_eq!(bench.delivery.windows_in_flight(), 2);
    bench.committed(0);
    assert_eq!(bench.sizes(), [1, 1, 1]);
}

#[test]
fn a_transaction_that_fits_is_not_split() {
    let mut bench = Bench::fresh();
    bench.transaction(10, 1);
    bench.begin(20).unwrap();
    bench.insert();
    bench.idle();
    assert_eq!(bench.sizes(), [1], "only what is complete goes out");
    assert!(bench.last_checkpoint().position.unwrap().complete);
    bench.land(0);
    bench.insert();
    bench.commit(20);
    bench.idle();
    assert_eq!(bench.sizes(), [1, 2]);
}

#[test]
fn the_event_bound_closes_a_window_at_a_boundary_only() {
    let mut bench = Bench::new(
        Settings {
            max_events: 3,
            ..settings()
        },
        &Resume::default(),
    );
    bench.transaction(10, 2);
    bench.transaction(20, 2);
    assert_eq!(bench.sizes(), [4]);
    assert!(bench.delivery.wants_input());
    bench.transaction(30, 3);
    assert!(
        !bench.delivery.wants_input(),
        "full, and the producer is busy"
    );
    bench.acknowledge(0);
    assert!(bench.delivery.wants_input());
    assert_eq!(bench.sizes(), [4, 3]);
}

#[test]
fn a_transaction_above_the_byte_bound_is_split_and_confirmed_after_its_last_part() {
    let small = Settings {
        max_bytes: 2000,
        ..settings()
    };
    let mut bench = Bench::new(small, &Resume::default());
    let payload = format!("\"{}\"", "x".repeat(1000));
    bench.begin(10).unwrap();
    let mut window = 0;
    for _ in 0..6 {
        bench.insert_payload(&payload).unwrap();
        if bench.produced.len() > window {
            let checkpoint = bench.last_checkpoint();
            assert!(!checkpoint.position.unwrap().complete);
            assert_eq!(checkpoint.confirmed_up_to, Lsn::INVALID);
            bench.land(window as u64);
            window += 1;
        }
    }
    assert!(window >= 2, "it was split");
    assert!(bench.confirmed.is_empty());
    bench.commit(10);
    bench.idle();
    if bench.produced.len() == window {
        // The last row filled a window of its own: only the end is left to record.
        bench.pass(Duration::from_secs(1));
    }
    assert!(bench.last_checkpoint().position.unwrap().complete);
    bench.land(window as u64);
    assert_eq!(bench.confirmed, [15]);
    let published: usize = bench.sizes().iter().sum();
    assert_eq!(published, 6);
}

#[test]
fn a_restart_goes_on_inside_a_split_transaction() {
    let position = position(10, 2, false);
    let resume = Resume {
        position: Some(position),
        ..Resume::default()
    };
    let mut bench = Bench::new(settings(), &resume);
    bench.transaction(5, 3);
    bench.transaction(10, 5);
    bench.idle();
    assert_eq!(bench.sizes(), [3]);
    let after = bench.last_checkpoint().position.unwrap();
    assert_eq!((after.index, after.complete), (5, true));
}

#[test]
fn the_wal_end_is_confirmed_only_after_what_came_before_it() {
    let mut bench = Bench::fresh();
    bench.transaction(10, 1);
    bench.keepalive(50, false);
    bench.idle();
    assert!(bench.confirmed.is_empty());
    bench.land(0);
    assert_eq!(bench.confirmed, [50]);
}

#[test]
fn idle_progress_is_recorded_within_the_interval_and_then_confirmed() {
    let mut bench = Bench::fresh();
    bench.keepalive(50, false);
    assert!(bench.produced.is_empty());
    assert_eq!(
        bench.delivery.poll_timeout(),
        Some(bench.now + Duration::from_secs(1))
    );
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.sizes(), [0]);
    assert!(
        bench.confirmed.is_empty(),
        "the checkpoint comes before the feedback"
    );
    bench.land(0);
    assert_eq!(bench.confirmed, [50]);
    assert_eq!(bench.delivery.poll_timeout(), None);
}

#[test]
fn a_keepalive_that_asks_for_a_reply_is_recorded_at_once() {
    let mut bench = Bench::fresh();
    bench.keepalive(50, true);
    assert_eq!(bench.sizes(), [0]);
    bench.land(0);
    assert_eq!(bench.confirmed, [50]);
}

#[test]
fn a_keepalive_inside_a_transaction_confirms_what_lies_before_it() {
    let mut bench = Bench::fresh();
    bench.begin(60).unwrap();
    bench.insert();
    bench.keepalive(50, true);
    assert_eq!(bench.sizes(), [0]);
    bench.land(0);
    assert_eq!(bench.confirmed, [50]);
    bench.commit(60);
    bench.idle();
    bench.land(1);
    assert_eq!(bench.confirmed, [50, 65]);
}

#[test]
fn nothing_beyond_the_verified_publication_is_confirmed() {
    let mut bench = Bench::verified_up_to(12);
    bench.transaction(10, 1);
    bench.idle();
    bench.land(0);
    assert_eq!(bench.confirmed, [12]);
    bench.delivery.handle_publication_verified(Lsn::from(100));
    bench.poll();
    assert_eq!(bench.confirmed, [12, 15]);
}

#[test]
fn draining_publishes_what_is_complete_and_takes_nothing_in() {
    let mut bench = Bench::fresh();
    bench.transaction(10, 1);
    bench.begin(20).unwrap();
    bench.insert();
    bench.delivery.handle_drain(bench.now);
    bench.poll();
    assert!(!bench.delivery.wants_input());
    assert!(!bench.delivery.is_drained());
    assert_eq!(bench.sizes(), [1]);
    bench.land(0);
    assert!(
        bench.delivery.is_drained(),
        "the open transaction is left to the slot"
    );
    assert_eq!(bench.confirmed, [15]);
}

#[test]
fn beside_the_events_a_checkpoint_follows_the_acknowledgements() {
    let beside = Settings {
        recording: Recording::Beside,
        ..settings()
    };
    let mut bench = Bench::new(beside, &Resume::default());
    for lsn in [10, 20] {
        bench.transaction(lsn, 1);
        bench.idle();
    }
    assert_eq!(
        bench.sizes(),
        [1, 1],
        "windows do not wait for acknowledgements"
    );
    bench.acknowledge(1);
    bench.pass(Duration::from_secs(1));
    assert!(
        bench.records.is_empty(),
        "the first window is not acknowledged"
    );
    bench.acknowledge(0);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.records.len(), 1);
    assert_eq!(bench.records[0].confirmed_up_to, Lsn::from(25));
    assert!(bench.confirmed.is_empty());
    bench.delivery.handle_recorded(bench.now);
    bench.poll();
    assert_eq!(bench.confirmed, [25]);
}

#[test]
fn a_transaction_inside_a_transaction_violates_the_protocol() {
    let mut bench = Bench::fresh();
    bench.begin(10).unwrap();
    assert!(matches!(bench.begin(20), Err(Halt::Protocol(_))));
}

#[test]
fn a_probe_writes_a_checkpoint_though_nothing_has_changed() {
    let mut bench = Bench::fresh();
    bench.delivery.handle_probe(bench.now);
    bench.poll();
    assert_eq!(bench.sizes(), [0]);
    bench.delivery.handle_probe(bench.now);
    bench.poll();
    assert_eq!(bench.sizes(), [0], "one at a time");
}

#[test]
fn an_emptied_buffer_is_used_again() {
    let mut bench = Bench::fresh();
    bench.delivery.recycle(RecordBatch::with_capacity(10));
    bench.transaction(10, 1);
    bench.idle();
    assert_eq!(bench.sizes(), [1]);
}

#[test]
fn under_load_a_window_closes_when_it_has_waited_long_enough() {
    let mut bench = Bench::fresh();
    bench.transaction(10, 1);
    let due = bench.delivery.poll_timeout().unwrap();
    assert_eq!(due, bench.now + Duration::from_millis(20));
    bench.pass(Duration::from_millis(19));
    assert!(bench.produced.is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.sizes(), [1]);
}

#[test]
fn a_checkpoint_beside_the_events_never_goes_back() {
    let beside = Settings {
        recording: Recording::Beside,
        ..settings()
    };
    let mut bench = Bench::new(beside, &Resume::default());
    bench.transaction(10, 1);
    bench.idle();
    bench.acknowledge(0);
    assert_eq!(bench.records.len(), 1, "the first one is due at once");
    bench.delivery.handle_recorded(bench.now);
    bench.keepalive(50, true);
    assert_eq!(bench.records.last().unwrap().confirmed_up_to, Lsn::from(50));
    bench.delivery.handle_recorded(bench.now);
    bench.transaction(60, 1);
    bench.idle();
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.records.len(), 2, "the event at 60 is under way");
    bench.acknowledge(1);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.records.last().unwrap().confirmed_up_to, Lsn::from(65));
}

/// A server that was put back to an older copy of its disk uses LSNs again: what the checkpoint
/// covers by its number alone may be something else.
#[test]
fn the_slot_is_not_moved_before_the_checkpoints_transaction_has_reappeared() {
    let position = position(50, 1, true);
    let resume = Resume {
        position: Some(position),
        floor: Lsn::INVALID,
        confirmed_up_to: Lsn::from(60),
        slot_confirmed: Lsn::from(20),
        ..Resume::default()
    };
    let mut bench = Bench::new(settings(), &resume);
    bench.poll();
    bench.transaction(30, 1);
    bench.keepalive(40, false);
    assert!(
        bench.confirmed.iter().all(|lsn| *lsn <= 20),
        "{:?}",
        bench.confirmed
    );
    bench.transaction(50, 1);
    bench.keepalive(60, false);
    assert_eq!(bench.confirmed.last(), Some(&60));
}

#[test]
fn a_request_for_a_reply_is_not_forgotten_while_a_checkpoint_is_under_way() {
    let mut bench = Bench::fresh();
    bench.keepalive(10, true);
    assert_eq!(bench.sizes(), [0]);
    bench.keepalive(20, true);
    bench.land(0);
    assert_eq!(
        bench.sizes(),
        [0, 0],
        "recorded at once, not after the interval"
    );
    bench.land(1);
    assert_eq!(bench.confirmed, [10, 20]);
}

#[test]
fn tables_that_are_whole_stay_so_in_every_checkpoint() {
    let whole_tables: std::collections::BTreeSet<_> = ["public.outbox".to_owned()].into();
    let resume = Resume {
        whole_tables: whole_tables.clone(),
        ..Resume::default()
    };
    let mut bench = Bench::new(settings(), &resume);
    bench.transaction(10, 1);
    bench.idle();
    assert_eq!(bench.last_checkpoint().whole_tables, whole_tables);
}
