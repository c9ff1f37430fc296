//! The protocol holds in every state within the bounds.

use model::{Protocol, Scenario};

fn check(name: &str) {
    let named = |s: &Scenario| s.name == name;
    let scenario = model::quick().into_iter().find(named);
    let bounds = scenario.expect("a scenario of that name").bounds;
    let outcome = model::explore(&Protocol::new(bounds));
    for violation in &outcome.violations {
        println!("{name}: {violation}");
    }
    println!("{name}: states={} depth={}", outcome.states, outcome.depth);
    assert!(outcome.violations.is_empty(), "{name} is violated");
    assert!(outcome.unreached.is_empty(), "{:?}", outcome.unreached);
}

#[test]
fn one_producer_survives_unanswered_requests() {
    check("one producer, unanswered");
}

#[test]
fn one_producer_survives_server_crashes() {
    check("one producer, server crash");
}

#[test]
fn one_producer_survives_transaction_timeouts() {
    check("one producer, expiry");
}

#[test]
fn windows_that_end_inside_transactions_survive_takeovers() {
    check("one producer, uneven windows");
}

#[test]
fn a_ring_of_producers_survives_deaths_and_takeovers() {
    check("ring, death and takeover");
}

#[test]
fn rings_of_different_sizes_survive_takeovers() {
    check("rings of different sizes");
}

/// Not a promise: it shows where the protocol ends and Kafka has to help.
#[test]
fn a_commit_request_that_arrives_twice_is_beyond_the_protocol() {
    let outcome = model::explore(&Protocol::new(model::known_limit()));
    let mut broken = outcome.violations.iter().map(|v| v.property);
    assert!(
        broken.any(|property| property == "each event once" || property == "confirmed is durable")
    );
}
