//! Without planted bugs, every seed holds every contract.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use sim::{Fault, Options, Outcome, Sabotage, run};

const SEEDS: u64 = 400;

fn outcomes() -> &'static [Outcome] {
    static OUTCOMES: OnceLock<Vec<Outcome>> = OnceLock::new();
    OUTCOMES.get_or_init(|| {
        let halves = [1..=SEEDS / 2, SEEDS / 2 + 1..=SEEDS];
        std::thread::scope(|scope| {
            let workers = halves.map(|seeds| {
                scope.spawn(|| {
                    seeds
                        .map(|seed| run(seed, Options::default()))
                        .collect::<Vec<_>>()
                })
            });
            let joined = workers.map(|worker| worker.join().unwrap_or_default());
            joined.into_iter().flatten().collect()
        })
    })
}

fn assert_holds(outcome: &Outcome) {
    if let Some(violation) = &outcome.violation {
        let seed = outcome.seed;
        panic!("seed {seed}: {violation}; replay: make sim SEED={seed}");
    }
}

#[test]
fn hundreds_of_seeds_hold_every_contract() {
    assert_eq!(outcomes().len() as u64, SEEDS);
    outcomes().iter().for_each(assert_holds);
}

/// A simulation in which nothing happens proves nothing.
#[test]
fn everything_that_can_happen_does_happen() {
    let mut total: BTreeMap<&str, u64> = BTreeMap::new();
    for outcome in outcomes() {
        for (what, count) in &outcome.counts {
            *total.entry(what).or_default() += count;
        }
    }
    let circumstances = [
        "exactly-once",
        "at-least-once",
        "add-concurrent",
        "add-lost",
        "add-unanswered",
        "ask-unanswered",
        "adopted",
        "drained",
        "early-end",
        "end-arrived-fenced",
        "end-arrived-late",
        "end-delayed",
        "end-lost",
        "end-repeated",
        "end-retried",
        "end-unanswered",
        "fence-delayed",
        "fence-lost",
        "fence-unanswered",
        "larger-ring-fenced",
        "letters-wait",
        "marks-submitted",
        "metadata-failed",
        "overlapping-windows",
        "probe",
        "produce-arrived-late",
        "produce-delayed",
        "produce-lost",
        "produce-refused",
        "produce-retriable",
        "produce-unanswered",
        "read-failed",
        "read-waits",
        "request-served",
        "resumed-in-mid-transaction",
        "silent-server",
        "split-transaction",
        "standby",
        "stopped-for-a-while",
        "transaction-timeout",
        "update-unanswered",
        "refused-by-name",
        "window-refused",
        "write-back-repeated",
        "write-back-waits",
    ];
    let gaps = Sabotage::ALL.map(Sabotage::stop_name);
    let faults = Fault::ALL.map(Fault::name);
    for what in faults.iter().chain(&circumstances).chain(&gaps) {
        assert!(total.contains_key(what), "{what} never happened: {total:?}");
    }
    let events: usize = outcomes().iter().map(|outcome| outcome.events).sum();
    assert!(events > 50 * SEEDS as usize, "only {events} events");
}

#[test]
fn a_seed_always_does_the_same() {
    for seed in [3, 4] {
        let [first, second] = [(); 2].map(|()| run(seed, Options::default()));
        assert_eq!(first.steps, second.steps);
        assert_eq!(first.events, second.events);
        assert_eq!(first.counts, second.counts);
    }
}

/// Seeds that once found a bug, and the sabotage that they were given, if any. What a seed does
/// changes with what the simulation draws, so each names what it found.
#[test]
fn seeds_that_found_a_bug_hold_every_contract() {
    for line in include_str!("found_seeds.txt").lines() {
        let mut words = line.split_whitespace();
        let Some(Ok(seed)) = words.next().map(str::parse) else {
            panic!("not a seed: {line}");
        };
        let options = Options {
            sabotage: words.next().and_then(Sabotage::named),
            ..Options::default()
        };
        assert_holds(&run(seed, options));
    }
}
