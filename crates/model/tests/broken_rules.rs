//! Without any one of its rules the protocol fails, and the properties notice.

use model::{Protocol, Rule};

const TWICE: &str = "each event once";
const LOST: &str = "confirmed is durable";
const DISORDER: &str = "order is commit order";

fn check(rule: Rule, consequence: &'static str) {
    let broken = Protocol::without(rule, model::counterexample_bounds(rule));
    let outcome = model::explore_for(&broken, consequence);
    for violation in &outcome.violations {
        println!("without {rule:?}: {violation}");
    }
    let found = outcome.violations.iter().any(|v| v.property == consequence);
    let states = outcome.states;
    assert!(
        found,
        "without {rule:?}, {consequence:?} holds in {states} states"
    );
}

/// The same bounds hold with the rule: it is the rule that makes the difference.
#[test]
fn every_counterexample_needs_its_broken_rule() {
    for rule in Rule::ALL {
        let outcome = model::explore(&Protocol::new(model::counterexample_bounds(rule)));
        let violations: String = outcome.violations.iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "{rule:?}: {violations}");
    }
}

#[test]
fn reading_the_checkpoint_before_fencing_is_caught() {
    check(Rule::FenceBeforeReading, TWICE);
}

#[test]
fn acquiring_all_ids_at_the_same_time_is_caught() {
    check(Rule::FenceInOrder, TWICE);
}

#[test]
fn fencing_nobody_is_caught() {
    check(Rule::Fence, TWICE);
}

#[test]
fn fencing_only_the_own_ring_is_caught() {
    check(Rule::FenceRecordedRing, TWICE);
}

#[test]
fn reading_uncommitted_checkpoints_is_caught() {
    check(Rule::ReadCommitted, LOST);
}

#[test]
fn not_skipping_by_the_checkpoint_is_caught() {
    check(Rule::SkipByCheckpoint, TWICE);
}

#[test]
fn writing_the_checkpoint_outside_of_the_transaction_is_caught() {
    check(Rule::CheckpointInTransaction, TWICE);
}

#[test]
fn confirming_before_the_commit_is_answered_is_caught() {
    check(Rule::ConfirmAfterCommit, LOST);
}

#[test]
fn confirming_a_keepalive_with_windows_in_flight_is_caught() {
    check(Rule::ConfirmKeepaliveWhenRecorded, LOST);
}

#[test]
fn repeating_a_window_with_an_unknown_outcome_is_caught() {
    check(Rule::RereadAfterUnknown, TWICE);
}

#[test]
fn taking_an_unknown_outcome_for_success_is_caught() {
    check(Rule::UnknownIsNotSuccess, LOST);
}

#[test]
fn committing_out_of_turn_is_caught() {
    check(Rule::CommitInTurn, LOST);
}

#[test]
fn producing_before_the_window_before_is_acknowledged_is_caught() {
    check(Rule::ProduceAfterAcknowledged, DISORDER);
}
