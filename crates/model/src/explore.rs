//! Running the checker.

use std::fmt;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::{Action, Protocol};

/// A property that does not hold, and how to get there.
#[derive(Debug)]
pub struct Violation {
    /// The property.
    pub property: &'static str,
    /// The steps from the initial state.
    pub path: Vec<Action>,
}

/// What an exploration found.
#[derive(Debug)]
pub struct Outcome {
    /// Distinct states.
    pub states: usize,
    /// The longest way into an unexplored state.
    pub depth: usize,
    /// Properties that do not hold.
    pub violations: Vec<Violation>,
    /// What should have been reachable and is not.
    pub unreached: Vec<&'static str>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} does not hold after", self.property)?;
        for action in &self.path {
            writeln!(f, "  {action:?}")?;
        }
        Ok(())
    }
}

/// Explores every state; with a broken rule, until something is violated.
pub fn explore(protocol: &Protocol) -> Outcome {
    run(
        protocol,
        match protocol.broken {
            Some(_) => HasDiscoveries::AnyFailures,
            None => HasDiscoveries::All,
        },
    )
}

/// Explores until that property is violated.
pub fn explore_for(protocol: &Protocol, property: &'static str) -> Outcome {
    run(protocol, HasDiscoveries::AnyOf([property].into()))
}

/// Breadth first, on one thread: the same states in the same order every time.
fn run(protocol: &Protocol, finish: HasDiscoveries) -> Outcome {
    let builder = protocol.clone().checker().finish_when(finish);
    let checker = builder.spawn_bfs().join();
    let mut violations = Vec::new();
    let mut unreached = Vec::new();
    for property in protocol.properties() {
        let found = checker.discovery(property.name);
        match (property.expectation, found) {
            (Expectation::Sometimes, None) => unreached.push(property.name),
            (Expectation::Always | Expectation::Eventually, Some(path)) => {
                violations.push(Violation {
                    property: property.name,
                    path: path.into_actions(),
                });
            }
            (Expectation::Sometimes, Some(_))
            | (Expectation::Always | Expectation::Eventually, None) => {}
        }
    }
    Outcome {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        violations,
        unreached,
    }
}
