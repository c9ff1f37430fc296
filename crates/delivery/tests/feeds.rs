//! Feeds, with the session ended after every step: each row is published once, and its table told.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;
mod world;

use bench::{with, writing_back};
use delivery::{OnDeadLetter, Recording, Settings, WriteBack};
use world::{A, B, End, REFUSED, Sent, World, list, row, transaction};

/// Enough for any session to come to its end.
const ENDLESS: usize = 10_000;
const OURS: &str = "outboxd";

/// Feed A, from the beginning or in the midst of a transaction, and soon after it feed B.
fn world(settings: &Settings, seed: u64) -> (World, Vec<String>) {
    let mut world = World::new(settings.clone(), seed);
    world.lists.insert(A.into(), list("a", 7));
    world.lists.insert(B.into(), list("b", 6));
    let mut first = vec![row("s1"), Sent::Request("another", A)];
    if world.below(2) == 0 {
        world.begin_with(A);
    } else {
        first.push(Sent::Request(OURS, A));
    }
    if world.below(2) == 0 {
        first.remove(0);
        first.push(row("s1"));
    }
    let second = match world.below(3) {
        0 => vec![Sent::Request(OURS, B), row("s2"), row("s9")],
        1 => vec![row("s2"), row("s9"), Sent::Request(OURS, B)],
        _ => {
            first.extend([Sent::Request(OURS, B), row("s2")]);
            vec![row("s9")]
        }
    };
    world.stream = transaction(10, &first);
    world.stream.extend(transaction(20, &second));
    world.stream.extend(transaction(30, &[row("s3")]));
    let mut ids = list("a", 7);
    ids.extend(list("b", 6));
    ids.extend(["s1", "s2", "s9", "s3"].map(str::to_owned));
    (world, ids)
}

fn survives(settings: &Settings, change: impl Fn(&mut World)) {
    for seed in 1..60 {
        for first in 0..80 {
            let (mut world, ids) = world(settings, seed * 1000 + first);
            change(&mut world);
            let first = usize::try_from(first).unwrap();
            let ends = [first, world.below(60), world.below(60)];
            let kinds = ends.map(|_| [End::Kill, End::Drain][world.below(2)]);
            for (steps, end) in ends.into_iter().zip(kinds) {
                world.session(steps, end);
            }
            let name = format!("{ends:?}, {kinds:?} of {seed}");
            let mut more = 0..20;
            assert!(more.any(|_| world.session(ENDLESS, End::Kill)), "{name}");
            world.check(&ids, &name);
        }
    }
}

fn small_windows() -> Settings {
    let mut settings = writing_back();
    settings.max_events = 2;
    settings
}

fn beside(settings: Settings) -> Settings {
    Settings {
        recording: Recording::Beside,
        ..settings
    }
}

#[test]
fn two_feeds_survive_whatever_ends_a_session() {
    survives(&small_windows(), |_| {});
}

#[test]
fn without_transactions_each_row_is_published_at_least_once_and_told() {
    survives(&beside(small_windows()), |_| {});
}

#[test]
fn tables_that_are_locked_for_long_are_told_all_the_same() {
    for settings in [small_windows(), beside(small_windows())] {
        survives(&settings, |world| world.locks = true);
    }
}

#[test]
fn rows_that_do_not_fit_are_told_by_the_next_session() {
    for max_pending_marks in [1, 3, 5] {
        let settings = with(|s| {
            *s = small_windows();
            s.max_pending_marks = max_pending_marks;
        });
        survives(&settings, |world| world.locks = true);
        survives(&beside(settings), |_| {});
    }
}

#[test]
fn a_dead_row_of_a_feed_parks_its_key() {
    let settings = with(|s| {
        *s = small_windows();
        s.tables[0].on_dead_letter = OnDeadLetter::ParkKey;
    });
    survives(&settings, |world| world.locks = true);
    survives(&beside(settings), |_| {});
}

#[test]
fn tables_are_told_what_they_want_to_know() {
    for write_back in [WriteBack::Failures, WriteBack::Off] {
        let settings = with(|s| {
            *s = small_windows();
            s.tables[0].write_back = write_back;
        });
        survives(&settings, |world| world.locks = true);
        survives(&beside(settings), |_| {});
    }
}

#[test]
fn a_row_that_the_brokers_refuse_is_found_and_no_other_is_dead() {
    let settings = with(|s| {
        *s = small_windows();
        s.max_events = 5;
    });
    for settings in [settings.clone(), beside(settings)] {
        survives(&settings, |world| {
            world.refused.insert(REFUSED);
        });
    }
}
