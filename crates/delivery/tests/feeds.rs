//! Feeds, with the session ended after every step: each row is published once, and its table told.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;
mod world;

use bench::{Bench, with, writing_back};
use delivery::{Fed, FeedProgress, OnDeadLetter, Outcome, Recording, Resume, Settings, WriteBack};
use world::{A, B, C, End, REFUSED, Sent, World, list, row, transaction};

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
    for seed in 1..20 {
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
            let mut more = 0..100;
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

#[test]
fn rows_are_told_again_as_fast_as_their_tables_take_them() {
    let settings = with(|s| {
        *s = writing_back();
        s.max_pending_marks = 1500;
    });
    let mut world = World::new(settings, 1);
    let ids = list("c", 5000);
    world.lists.insert(C.into(), ids.clone());
    world.begin_with(C);
    world
        .checkpoint
        .as_mut()
        .unwrap()
        .feed
        .as_mut()
        .unwrap()
        .fed
        .done = 5000;
    world.published = ids.iter().map(|id| (id.clone(), false)).collect();
    world.writes_last = true;
    assert!(world.session(100_000, End::Kill), "one session is enough");
    world.check(&ids, "one session");
}

/// What a repair makes of what it finds: a list of the rest, and another slot.
fn repaired(world: &mut World) {
    let all = ["s1", "s2", "s9", "s3"].map(str::to_owned);
    let feed = world.checkpoint.as_ref().and_then(|c| c.feed.clone());
    let mut rest = Vec::new();
    if let Some(feed) = feed {
        let done = usize::try_from(feed.fed.done).unwrap();
        let list = world.lists.get(&feed.request).into_iter().flatten();
        rest.extend(list.skip(done).cloned());
    }
    let published = world.published.clone();
    rest.extend(
        all.into_iter()
            .filter(|id| published.iter().all(|(p, _)| p != id)),
    );
    for (id, is_dead) in published {
        let word = if is_dead { "FAILED" } else { "SENT" };
        world.told.entry(id).or_insert(word);
    }
    world.lists = [(C.to_owned(), rest)].into();
    world.slot = pgoutput::Lsn::from(100);
    world.stream = transaction(110, &[row("s4")]);
    world.begin_with(C);
}

#[test]
fn dead_rows_of_a_feed_are_not_taken_for_those_of_the_one_that_a_repair_makes() {
    for recording in [Recording::InTransaction, Recording::Beside] {
        for seed in 1..1000 {
            let settings = Settings {
                recording,
                ..small_windows()
            };
            let (mut world, mut ids) = world(&settings, seed);
            world.lists.remove(B);
            world
                .stream
                .retain(|sent| !matches!(sent, Sent::Request(_, B)));
            world.locks = true;
            let steps = [world.below(60), world.below(60), world.below(60)];
            world.session(steps[0], End::Kill);
            if world.checkpoint.is_none() {
                continue;
            }
            repaired(&mut world);
            world.session(steps[1], End::Kill);
            world.session(steps[2], End::Kill);
            let name = format!("{steps:?} of {seed}");
            let mut more = 0..100;
            assert!(more.any(|_| world.session(ENDLESS, End::Kill)), "{name}");
            ids.retain(|id| !id.starts_with('b'));
            ids.push("s4".into());
            if !world.published.iter().any(|(id, _)| id == "a1") {
                ids.retain(|id| !id.starts_with('a'));
            }
            world.check(&ids, &name);
        }
    }
}

#[test]
fn a_request_that_a_promoted_server_never_had_holds_up_no_other() {
    for marked in [0, 7] {
        let mut world = World::new(small_windows(), 1);
        world.lists.insert(A.into(), list("a", 7));
        world.lists.insert(B.into(), list("b", 6));
        world.begin_with(A);
        let feed = world.checkpoint.as_mut().unwrap().feed.as_mut().unwrap();
        (feed.fed.done, feed.fed.marked, feed.fed.controlled) = (7, marked, true);
        world.stream = transaction(10, &[Sent::Request(OURS, B), row("s1")]);
        assert!(world.session(ENDLESS, End::Kill));
        let mut ids = list("b", 6);
        ids.push("s1".into());
        world.check(&ids, "B");
    }
}

#[test]
fn what_is_only_printed_is_forgotten_too() {
    let settings = Settings {
        recording: Recording::Nowhere,
        ..small_windows()
    };
    let mut world = World::new(settings, 1);
    world.lists.insert(A.into(), list("a", 7));
    world.lists.insert(B.into(), list("b", 6));
    let requests = [Sent::Request(OURS, A), Sent::Request(OURS, B), row("s1")];
    world.stream = transaction(10, &requests);
    assert!(world.session(ENDLESS, End::Kill));
    assert_eq!(world.lists.len(), 0);
    assert!(world.published.contains(&("s1".to_owned(), false)));
}

#[test]
fn what_was_refused_in_a_feed_is_not_refused_in_another_for_its_place() {
    let mut world = World::new(small_windows(), 1);
    world.refused.insert(REFUSED);
    world.lists.insert(A.into(), list("a", 7));
    world.begin_with(A);
    world.stream = transaction(10, &[row("s1")]);
    let mut more = 0..100;
    assert!(more.any(|_| world.session(ENDLESS, End::Kill)));
    assert!(world.published.contains(&(REFUSED.to_owned(), true)));
    // What a repair makes while the relay looks on.
    world.lists.insert(C.into(), list("c", 7));
    world.begin_with(C);
    assert!(world.session(ENDLESS, End::Kill));
    let ids = [list("a", 7), list("c", 7), list("s", 1)].concat();
    world.check(&ids, "C");
}

#[test]
fn a_record_from_before_a_feed_says_nothing_of_its_dead_rows() {
    for seed in 1..500 {
        let mut world = World::new(beside(small_windows()), seed);
        world.lists.insert(A.into(), list("a", 7));
        for (commit, n) in [(10, 1), (20, 2), (30, 3), (40, 4)] {
            let sent = [row(&format!("s{n}"))];
            world.stream.extend(transaction(commit, &sent));
        }
        let request = [Sent::Request(OURS, A)];
        world.stream.extend(transaction(50, &request));
        assert!(world.session(ENDLESS, End::Kill));
        let ids = [list("a", 7), list("s", 4)].concat();
        world.check(&ids, &seed.to_string());
    }
}

#[test]
fn without_transactions_a_feed_that_goes_on_is_recorded_before_the_stream_does() {
    let mut world = World::new(beside(small_windows()), 1);
    let mut ids = list("c", 100);
    world.lists.insert(C.into(), ids.clone());
    world.begin_with(C);
    world.stream = transaction(10, &[row("s1"), Sent::Request(OURS, C)]);
    let first = world.checkpoint.as_mut().unwrap();
    let begun = bench::position(10, 1, false);
    first.position = Some(delivery::TransactionPosition { xid: 10, ..begun });
    first.feed.as_mut().unwrap().fed.controlled = true;
    world.published.push(("s1".to_owned(), false));
    world.session(100, End::Kill);
    let feed = world.checkpoint.as_ref().and_then(|c| c.feed.clone());
    assert!(feed.unwrap().fed.done > 0, "it would all be repeated");
    assert!(world.session(ENDLESS, End::Kill));
    ids.push("s1".into());
    world.check(&ids, "C");
}

#[test]
fn a_feed_whose_table_is_not_told_yet_keeps_other_feeds_waiting_and_nothing_else() {
    let published = Fed {
        done: 1,
        ..Fed::default()
    };
    let resume = Resume {
        feed: Some(FeedProgress {
            request: "feed".into(),
            rows: 1,
            fed: published,
        }),
        ..Resume::default()
    };
    for (command, goes_on) in [
        (r#"{"command":"replay","rows":1}"#, false),
        (r#"{"command":"dlq-replay","filter":{}}"#, true),
    ] {
        let mut bench = Bench::new(writing_back(), &resume);
        bench.wait();
        assert_eq!(bench.feeds.len(), 1, "it goes on");
        bench.fed_row(1);
        bench.delivery.handle_feed_end(bench.now);
        bench.poll();
        let told: Vec<_> = bench
            .marks
            .iter()
            .flat_map(|(_, marks)| marks.iter())
            .collect();
        assert!(
            matches!(told[..], [mark] if mark.outcome == Outcome::Fed),
            "{told:?}"
        );
        bench.control_relation();
        bench.begin(10).unwrap();
        bench.control(command);
        bench.wait();
        assert_eq!(
            bench.served.len() + bench.feeds.len() - 1,
            usize::from(goes_on)
        );
    }
}
