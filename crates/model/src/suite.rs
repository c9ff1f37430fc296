//! What is explored by `cargo test` and by `make model`.

use crate::{Bounds, Budget, Rule, Wal};

/// Bounds with a name.
#[derive(Debug)]
pub struct Scenario {
    /// What it is about.
    pub name: &'static str,
    /// How much is explored.
    pub bounds: Bounds,
}

/// One row, and a transaction that needs two windows.
const SPLIT: &[u8] = &[1, 2];
/// With windows of two rows: a window that ends at a boundary inside the gathered rows, and a
/// transaction of a window and a half.
const UNEVEN: &[u8] = &[1, 3];

fn scenario(name: &'static str, rows: &[u8], window: u8, ring: u8, budget: Budget) -> Scenario {
    Scenario {
        name,
        bounds: Bounds::new(rows, window, ring, budget),
    }
}

/// Two relays whose rings differ.
fn resized(rows: &[u8], budget: Budget) -> Bounds {
    Bounds {
        wal: Wal::new(rows),
        window_rows: 1,
        rings: [2, 1],
        budget,
    }
}

/// Small enough for every run of the tests.
pub fn quick() -> Vec<Scenario> {
    let takeover = Budget {
        disconnects: 1,
        ..Budget::NONE
    };
    let death = Budget {
        crashes: 1,
        ..takeover
    };
    let unanswered = Budget {
        unanswered: 1,
        ..death
    };
    let server = Budget {
        server_crashes: 1,
        keepalives: 1,
        ..takeover
    };
    let expiry = Budget {
        expiries: 1,
        ..takeover
    };
    vec![
        scenario("one producer, unanswered", SPLIT, 1, 1, unanswered),
        scenario("one producer, server crash", SPLIT, 1, 1, server),
        scenario("one producer, expiry", SPLIT, 1, 1, expiry),
        scenario("one producer, uneven windows", UNEVEN, 2, 1, death),
        scenario("ring, death and takeover", SPLIT, 1, 2, death),
        Scenario {
            name: "rings of different sizes",
            bounds: resized(SPLIT, death),
        },
    ]
}

/// Takes minutes.
pub fn deep() -> Vec<Scenario> {
    let unanswered = Budget {
        disconnects: 1,
        unanswered: 1,
        ..Budget::NONE
    };
    let all_but_server = Budget {
        server_crashes: 0,
        ..Budget::ONE
    };
    let server = Budget {
        crashes: 1,
        server_crashes: 1,
        ..Budget::NONE
    };
    let twice = Budget {
        crashes: 1,
        disconnects: 2,
        ..Budget::NONE
    };
    vec![
        Scenario {
            name: "rings of different sizes, unanswered",
            bounds: resized(SPLIT, unanswered),
        },
        scenario("ring, unanswered", SPLIT, 1, 2, unanswered),
        scenario("ring, server crash", SPLIT, 1, 2, server),
        scenario("ring, uneven windows", UNEVEN, 2, 2, unanswered),
        scenario("one producer, two takeovers", &[1, 2, 1], 1, 1, twice),
        scenario("one producer, all but server", SPLIT, 1, 1, all_but_server),
    ]
}

/// The least bounds in which breaking a rule shows.
pub fn counterexample_bounds(rule: Rule) -> Bounds {
    let none = Budget::NONE;
    let crash = Budget { crashes: 1, ..none };
    let takeover = Budget {
        disconnects: 1,
        ..none
    };
    let unanswered = Budget {
        unanswered: 1,
        ..none
    };
    let keepalive = Budget {
        keepalives: 1,
        ..none
    };
    match rule {
        Rule::FenceBeforeReading | Rule::Fence => Bounds::new(SPLIT, 1, 1, takeover),
        Rule::FenceInOrder => Bounds::new(SPLIT, 1, 2, takeover),
        Rule::FenceRecordedRing => resized(SPLIT, takeover),
        Rule::ReadCommitted | Rule::SkipByCheckpoint | Rule::CheckpointInTransaction => {
            Bounds::new(SPLIT, 1, 1, crash)
        }
        Rule::ConfirmAfterCommit => Bounds::new(UNEVEN, 2, 1, none),
        Rule::ConfirmKeepaliveWhenRecorded => Bounds::new(SPLIT, 1, 1, keepalive),
        Rule::RereadAfterUnknown => Bounds::new(SPLIT, 1, 1, unanswered),
        Rule::UnknownIsNotSuccess => Bounds::new(UNEVEN, 2, 1, unanswered),
        Rule::CommitInTurn | Rule::ProduceAfterAcknowledged => Bounds::new(SPLIT, 1, 2, none),
    }
}

/// A commit request that arrives a second time, in the producer's next transaction: an epoch per
/// producer does not tell the two apart (Kafka's KIP-890 gives each transaction its own).
pub fn known_limit() -> Bounds {
    let duplicates = Budget {
        duplicates: 1,
        crashes: 1,
        ..Budget::NONE
    };
    Bounds::new(SPLIT, 1, 1, duplicates)
}
