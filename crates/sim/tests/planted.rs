//! Each planted bug is caught, and by a contract that it breaks.

use sim::{Bug, Options, Violation, run};

/// A bug that does not show in so many seeds would not show in a nightly run either.
const SEEDS: u64 = 8_000;

/// The first violation; of the kinds that `is_meant`, where the bug also breaks others.
fn first(bug: Bug, is_meant: impl Fn(&Violation) -> bool) -> Option<Violation> {
    let options = Options {
        bug: Some(bug),
        ..Options::default()
    };
    let violations = (1..=SEEDS).filter_map(|seed| run(seed, options).violation);
    violations.into_iter().find(&is_meant)
}

fn check(bug: Bug, kinds: &[&str]) {
    let caught = first(bug, |_| true);
    match caught {
        Some(violation) => assert!(kinds.contains(&violation.kind()), "{violation}"),
        None => panic!("{} went unseen in {SEEDS} seeds", bug.name()),
    }
}

/// That judge is there, whichever catches the bug first.
fn check_judge(bug: Bug, kind: &str) {
    let caught = first(bug, |violation| violation.kind() == kind);
    assert!(caught.is_some(), "{} was never {kind}", bug.name());
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
    check_judge(Bug::ReadsBeforeFencing, "checkpoint-back");
}

#[test]
fn fencing_only_the_own_ring_is_caught() {
    let kinds = [
        "duplicated",
        "checkpoint-back",
        "recorded-undelivered",
        "confirmed-undelivered",
    ];
    check(Bug::FencesOwnRingOnly, &kinds);
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
    let kinds = [
        "altered",
        "lost",
        "duplicated",
        "confirmed-undelivered",
        "recorded-undelivered",
    ];
    check(Bug::CountsAfterFilter, &kinds);
}

#[test]
fn committing_out_of_turn_is_caught() {
    let kinds = [
        "lost",
        "confirmed-undelivered",
        "checkpoint-back",
        "recorded-undelivered",
    ];
    check(Bug::CommitsOutOfTurn, &kinds);
}

#[test]
fn committing_a_window_in_pieces_is_caught() {
    let kinds = [
        "torn",
        "confirmed-undelivered",
        "duplicated",
        "recorded-undelivered",
    ];
    check(Bug::CommitsInPieces, &kinds);
}

#[test]
fn a_checkpoint_outside_the_transaction_is_caught() {
    let kinds = [
        "lost",
        "confirmed-undelivered",
        "checkpoint-back",
        "recorded-undelivered",
    ];
    check(Bug::CheckpointsOutside, &kinds);
}

#[test]
fn taking_an_unknown_outcome_for_success_is_caught() {
    let kinds = [
        "lost",
        "confirmed-undelivered",
        "confirmed-unrecorded",
        "recorded-undelivered",
    ];
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

#[test]
fn confirming_what_was_merely_received_is_caught() {
    check_judge(Bug::ConfirmsReceived, "confirmed-unrecorded");
}

#[test]
fn ignoring_a_request_for_a_reply_is_caught() {
    check_judge(Bug::IgnoresUrgency, "unanswered");
}

#[test]
fn holding_up_a_shutdown_of_the_server_is_caught() {
    check_judge(Bug::HoldsUpShutdowns, "shutdown-held-up");
}

#[test]
fn skipping_by_the_lsn_of_rows_is_caught() {
    let kinds = [
        "lost",
        "altered",
        "recorded-undelivered",
        "confirmed-undelivered",
    ];
    check(Bug::SkipsByRowLsn, &kinds);
}

#[test]
fn publishing_a_split_transaction_from_its_start_again_is_caught() {
    check(Bug::ForgetsIndex, &["duplicated", "checkpoint-back"]);
    check_judge(Bug::ForgetsIndex, "checkpoint-back");
}

#[test]
fn taking_a_part_of_a_transaction_for_the_whole_is_caught() {
    let kinds = ["lost", "recorded-undelivered", "confirmed-undelivered"];
    check(Bug::TakesPartsForWhole, &kinds);
}

#[test]
fn reading_uncommitted_checkpoints_is_caught() {
    let kinds = [
        "lost",
        "recorded-undelivered",
        "confirmed-undelivered",
        "confirmed-unrecorded",
    ];
    check(Bug::ReadsUncommitted, &kinds);
}

#[test]
fn transactional_ids_that_nobody_fences_are_caught() {
    check_judge(Bug::NamesProducersAnew, "duplicated");
}

#[test]
fn sending_again_without_idempotence_is_caught() {
    check(Bug::RepeatsUnanswered, &["duplicated"]);
}

#[test]
fn sending_again_in_another_order_is_caught() {
    check(
        Bug::ReordersRetries,
        &["misordered", "recorded-undelivered"],
    );
}

#[test]
fn dropping_a_window_that_failed_is_caught() {
    let kinds = ["lost", "recorded-undelivered", "confirmed-undelivered"];
    check(Bug::DropsFailedWindows, &kinds);
}

#[test]
fn replacing_a_lost_slot_is_caught() {
    let kinds = ["recorded-undelivered", "checkpoint-back", "gap-ignored"];
    check(Bug::ReplacesLostSlots, &kinds);
}

#[test]
fn making_a_missing_slot_anew_is_caught() {
    let kinds = ["recorded-undelivered", "checkpoint-back", "gap-ignored"];
    check(Bug::RecreatesMissingSlots, &kinds);
}

#[test]
fn trusting_a_slot_that_somebody_else_moved_is_caught() {
    check_judge(Bug::TrustsForeignSlots, "recorded-undelivered");
}

#[test]
fn adopting_a_slot_without_a_record_is_caught() {
    let kinds = ["recorded-undelivered", "checkpoint-back", "duplicated"];
    check(Bug::AdoptsAnySlot, &kinds);
}

#[test]
fn starting_the_stream_at_the_checkpoint_is_caught() {
    let kinds = ["stopped", "lost", "confirmed-undelivered", "stuck"];
    check(Bug::StartsAtCheckpoint, &kinds);
}

#[test]
fn comparing_positions_of_different_timelines_is_caught() {
    let kinds = [
        "stopped",
        "lost",
        "confirmed-undelivered",
        "checkpoint-back",
    ];
    check(Bug::IgnoresTimelines, &kinds);
}

#[test]
fn updating_rows_before_their_transactions_are_seen_is_caught() {
    check(Bug::WritesUnseen, &["confirmed-untold", "row-wrong"]);
}

#[test]
fn forgetting_what_to_write_back_is_caught() {
    check(Bug::ForgetsMarks, &["confirmed-untold", "row-wrong"]);
}

#[test]
fn confirming_before_the_write_back_is_caught() {
    check(Bug::ConfirmsUntold, &["confirmed-untold", "row-wrong"]);
}

#[test]
fn confirming_rows_whose_states_a_standby_lacks_is_caught() {
    check(
        Bug::LeavesStandbysBehind,
        &["confirmed-untold", "row-wrong"],
    );
}

#[test]
fn marking_a_row_that_may_be_dead_is_caught() {
    check(Bug::ForgetsSettled, &["row-wrong"]);
}

#[test]
fn dropping_marks_without_starting_over_is_caught() {
    check(Bug::DropsOverflow, &["confirmed-untold", "row-wrong"]);
}

#[test]
fn forgetting_the_exceptions_of_a_window_is_caught() {
    // The next session misses them.
    check(Bug::ForgetsExceptions, &["stopped"]);
}

#[test]
fn taking_a_dead_row_for_a_published_one_is_caught() {
    check_judge(Bug::ForgetsDead, "row-wrong");
}

#[test]
fn forgetting_parked_keys_is_caught() {
    check(Bug::ForgetsParked, &["overtaken"]);
}

#[test]
fn forgetting_rows_of_published_dead_letters_is_caught() {
    check_judge(Bug::ForgetsRevived, "row-wrong");
}

#[test]
fn carrying_a_request_out_twice_is_caught() {
    check(
        Bug::ServesResolved,
        &["served-twice", "duplicated", "stuck"],
    );
}

#[test]
fn carrying_a_request_out_on_what_it_left_itself_is_caught() {
    check(
        Bug::ServesOwnLetters,
        &[
            "stuck",
            "served-twice",
            "duplicated",
            "panicked",
            "unserved",
        ],
    );
}

#[test]
fn reading_dead_letters_before_they_are_settled_is_caught() {
    check(Bug::ReadsUnsettled, &["unserved", "overtaken"]);
}

#[test]
fn releasing_a_key_before_its_events_are_published_is_caught() {
    check(Bug::ReleasesUnpublished, &["unserved", "overtaken"]);
}

#[test]
fn passing_requests_over_is_caught() {
    check(Bug::ServesNothing, &["unserved", "overtaken"]);
}

#[test]
fn taking_a_filter_for_everything_is_caught() {
    check(Bug::MisreadsFilters, &["unasked"]);
}

#[test]
fn learning_nothing_from_refused_windows_is_caught() {
    check(Bug::TrustsProbes, &["stuck", "unanswered"]);
}
