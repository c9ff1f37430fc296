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

/// Explores every state. With a broken rule it stops at the first violation, which is a shortest
/// one because the search is breadth first on one thread.
pub fn explore(protocol: &Protocol) -> Outcome {
    let finish = match protocol.broken {
        Some(_) => HasDiscoveries::AnyFailures,
        None => HasDiscoveries::All,
    };
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
