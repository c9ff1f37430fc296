//! Without any one of its rules the protocol fails, and the properties notice.

use model::{Outcome, Protocol, Rule};

fn without(rule: Rule) -> Outcome {
    model::explore(&Protocol::without(rule, model::counterexample_bounds(rule)))
}

/// At least one of these properties fails; the path is printed if it is another one.
fn check(rule: Rule, expected: &[&str]) {
    let outcome = without(rule);
    let found = outcome
        .violations
        .iter()
        .find(|v| expected.contains(&v.property));
    for violation in &outcome.violations {
        println!("without {rule:?}: {violation}");
    }
    assert!(
        found.is_some(),
        "nothing of {expected:?} in {} states",
        outcome.states
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
    check(Rule::FenceBeforeReading, &["each event once"]);
}

#[test]
fn acquiring_all_ids_at_the_same_time_is_caught() {
    check(Rule::FenceInOrder, &["each event once"]);
}

#[test]
fn fencing_nobody_is_caught() {
    check(Rule::Fence, &["each event once"]);
}

#[test]
fn fencing_only_the_own_ring_is_caught() {
    check(Rule::FenceRecordedRing, &["each event once"]);
}

#[test]
fn reading_uncommitted_checkpoints_is_caught() {
    check(Rule::ReadCommitted, &["each event once"]);
}

#[test]
fn not_skipping_by_the_checkpoint_is_caught() {
    check(Rule::SkipByCheckpoint, &["each event once"]);
}

#[test]
fn writing_the_checkpoint_outside_of_the_transaction_is_caught() {
    check(Rule::CheckpointInTransaction, &["each event once"]);
}

#[test]
fn confirming_before_the_commit_is_answered_is_caught() {
    check(Rule::ConfirmAfterCommit, &["each event once"]);
}

#[test]
fn confirming_a_keepalive_with_windows_in_flight_is_caught() {
    check(Rule::ConfirmKeepaliveWhenRecorded, &["each event once"]);
}

#[test]
fn repeating_a_window_with_an_unknown_outcome_is_caught() {
    check(Rule::RereadAfterUnknown, &["each event once"]);
}

#[test]
fn taking_an_unknown_outcome_for_success_is_caught() {
    check(Rule::UnknownIsNotSuccess, &["each event once"]);
}

#[test]
fn committing_out_of_turn_is_caught() {
    check(Rule::CommitInTurn, &["each event once"]);
}

#[test]
fn producing_before_the_window_before_is_acknowledged_is_caught() {
    check(Rule::ProduceAfterAcknowledged, &["each event once"]);
}
