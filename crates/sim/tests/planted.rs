//! Each planted bug is caught, and by a contract that it breaks.

use sim::{Bug, Options, run};

/// A bug that does not show in so many seeds would not show in a nightly run either.
const SEEDS: u64 = 8_000;

fn check(bug: Bug, kinds: &[&str]) {
    let options = Options {
        bug: Some(bug),
        ..Options::default()
    };
    let caught = (1..=SEEDS).find_map(|seed| run(seed, options).violation);
    match caught {
        Some(violation) => assert!(kinds.contains(&violation.kind()), "{violation}"),
        None => panic!("{} went unseen in {SEEDS} seeds", bug.name()),
    }
}

#[test]
fn confirming_on_send_is_caught() {
    let kinds = ["confirmed-undelivered", "confirmed-unrecorded"];
    check(Bug::ConfirmsOnSend, &kinds);
}

#[test]
fn confirming_keepalives_in_flight_is_caught() {
    let kinds = ["confirmed-undelivered", "confirmed-unrecorded"];
    check(Bug::ConfirmsKeepalives, &kinds);
}

#[test]
fn confirming_before_the_checkpoint_is_committed_is_caught() {
    check(Bug::ConfirmsUnrecorded, &["confirmed-unrecorded"]);
}

#[test]
fn confirming_without_a_look_at_the_publication_is_caught() {
    check(Bug::ConfirmsUnverified, &["confirmed-unverified"]);
}

#[test]
fn reading_the_checkpoint_before_fencing_is_caught() {
    check(Bug::ReadsBeforeFencing, &["duplicated", "checkpoint-back"]);
}

#[test]
fn fencing_only_the_own_ring_is_caught() {
    check(Bug::FencesOwnRingOnly, &["duplicated", "checkpoint-back"]);
}

#[test]
fn taking_an_early_end_for_the_end_is_caught() {
    let kinds = ["duplicated", "checkpoint-back", "stopped"];
    check(Bug::TrustsEarlyEnd, &kinds);
}

#[test]
fn publishing_again_what_the_checkpoint_covers_is_caught() {
    check(Bug::ForgetsPosition, &["duplicated", "checkpoint-back"]);
}

#[test]
fn counting_changes_after_a_filter_is_caught() {
    let kinds = ["altered", "lost", "duplicated", "confirmed-undelivered"];
    check(Bug::CountsAfterFilter, &kinds);
}

#[test]
fn committing_out_of_turn_is_caught() {
    let kinds = ["lost", "confirmed-undelivered", "checkpoint-back"];
    check(Bug::CommitsOutOfTurn, &kinds);
}

#[test]
fn committing_a_window_in_pieces_is_caught() {
    let kinds = ["torn", "confirmed-undelivered", "duplicated"];
    check(Bug::CommitsInPieces, &kinds);
}

#[test]
fn a_checkpoint_outside_the_transaction_is_caught() {
    let kinds = ["lost", "confirmed-undelivered", "checkpoint-back"];
    check(Bug::CheckpointsOutside, &kinds);
}

#[test]
fn taking_an_unknown_outcome_for_success_is_caught() {
    let kinds = ["lost", "confirmed-undelivered", "confirmed-unrecorded"];
    check(Bug::BelievesUnknownCommits, &kinds);
}

#[test]
fn taking_an_unknown_outcome_for_failure_is_caught() {
    let kinds = ["duplicated", "checkpoint-back", "stuck"];
    check(Bug::RepeatsUnknownCommits, &kinds);
}

#[test]
fn reading_on_against_backpressure_is_caught() {
    check(Bug::IgnoresBackpressure, &["memory"]);
}
