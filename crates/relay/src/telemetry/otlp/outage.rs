//! A collector that does not take what it is sent.

use std::sync::atomic::{AtomicBool, Ordering};

/// Says once that an export fails, and once that it works again.
#[derive(Debug)]
pub struct Outage {
    signal: &'static str,
    is_failing: AtomicBool,
}

impl Outage {
    /// None yet, for `signal`.
    pub fn of(signal: &'static str) -> Self {
        Self {
            signal,
            is_failing: AtomicBool::new(false),
        }
    }

    /// One export has ended so.
    pub fn note<E: ToString>(&self, outcome: &Result<(), E>) {
        let signal = self.signal;
        let was_failing = self.is_failing.swap(outcome.is_err(), Ordering::Relaxed);
        match outcome {
            Err(error) if !was_failing => tracing::warn!(
                signal,
                error = error.to_string(),
                "not exported for now: check the collector and otlp.endpoint"
            ),
            Ok(()) if was_failing => tracing::info!(signal, "exported again"),
            Ok(()) | Err(_) => {}
        }
    }
}
