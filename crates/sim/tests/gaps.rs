//! What the relay can't do without is taken from it: it stops, skips nothing, and says why.

use sim::{Options, Sabotage, run};

/// Enough that each kind of gap meets a relay at many different moments.
const SEEDS: u64 = 120;

/// Every contract holds to the end of each run, and this many of them end by a stop for the gap.
fn check(sabotage: Sabotage, least_stops: usize) {
    let options = Options {
        sabotage: Some(sabotage),
        ..Options::default()
    };
    let mut stops = 0;
    for seed in 1..=SEEDS {
        let outcome = run(seed, options);
        let name = sabotage.name();
        if let Some(violation) = &outcome.violation {
            panic!("seed {seed}: {violation}; replay: sim --seed {seed} --trace --sabotage {name}");
        }
        stops += usize::from(outcome.counts.contains_key(sabotage.stop_name()));
    }
    assert!(stops >= least_stops, "stopped in {stops} runs only");
}

#[test]
fn a_lost_slot_stops_the_relay() {
    check(Sabotage::LosesSlot, 100);
}

#[test]
fn a_dropped_slot_stops_the_relay() {
    check(Sabotage::DropsSlot, 90);
}

#[test]
fn a_recreated_slot_stops_the_relay() {
    check(Sabotage::RecreatesSlot, 60);
}

/// Where it was not moved beyond the checkpoint there is no gap, and the relay goes on.
#[test]
fn a_slot_that_somebody_else_moved_stops_the_relay() {
    check(Sabotage::AdvancesSlot, 40);
}

#[test]
fn a_lost_checkpoint_stops_the_relay() {
    check(Sabotage::LosesCheckpoint, 60);
}

#[test]
fn lost_parked_keys_and_dead_rows_stop_the_relay() {
    check(Sabotage::LosesExceptions, 8);
}
