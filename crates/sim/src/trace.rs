//! What happened, line by line, and how often.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::Duration;

/// Tells the run as it goes, and counts what it tells of.
#[derive(Debug, Default)]
pub struct Trace {
    prints: bool,
    counts: BTreeMap<&'static str, u64>,
}

impl Trace {
    /// A trace that prints, or only counts.
    pub fn new(prints: bool) -> Self {
        Self {
            prints,
            counts: BTreeMap::new(),
        }
    }

    /// Prints a line, if lines are wanted.
    pub fn say(&self, at: Duration, line: impl FnOnce() -> String) {
        if self.prints {
            // A reader that has seen enough and left is no failure.
            let _ = writeln!(io::stdout(), "{:10.3} {}", at.as_secs_f64(), line());
        }
    }

    /// Counts a thing worth knowing whether it ever happens.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// How often each thing happened.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }
}
