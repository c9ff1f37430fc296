//! Fuzzing harnesses: what must hold for every input of every parser.
//!
//! ```text
//!  libFuzzer ──► targets/ ──┐
//!                           ├──► run(name, bytes) ──► harness ──► the crates' public functions
//!  cargo test ──► corpus ───┘
//! ```
//!
//! A harness takes any bytes and panics if a promise is broken. It knows nothing of libFuzzer, so
//! that `cargo test` replays corpus and regressions through the same code. Where a harness has a
//! `check_with`, the functions under test are arguments: `tests/bite.rs` hands in broken ones and
//! sees them caught.

pub mod checkpoint;
pub mod config;
pub mod config_secrets;
pub mod connection_url;
pub mod envelope_row;
pub mod pgoutput_message;
pub mod planted;
pub mod replication_frame;
pub mod text_form;

/// One harness with the name of its fuzz target, corpus and regressions.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As in `targets/fuzz_targets/NAME.rs` and `corpus/NAME`.
    pub name: &'static str,
    /// Panics if a promise is broken.
    pub check: fn(&[u8]),
}

/// What `make fuzz` runs.
pub const TARGETS: [Target; 8] = [
    Target {
        name: "checkpoint",
        check: checkpoint::check,
    },
    Target {
        name: "config",
        check: config::check,
    },
    Target {
        name: "config_secrets",
        check: config_secrets::check,
    },
    Target {
        name: "connection_url",
        check: connection_url::check,
    },
    Target {
        name: "envelope",
        check: envelope_row::check,
    },
    Target {
        name: "pgoutput",
        check: pgoutput_message::check,
    },
    Target {
        name: "replication_frame",
        check: replication_frame::check,
    },
    Target {
        name: "text_form",
        check: text_form::check,
    },
];

/// A bug put in on purpose, to see that fuzzing finds one. No part of [`TARGETS`].
pub const PLANTED: Target = Target {
    name: "planted",
    check: planted::check,
};

/// Runs the harness called `name`.
///
/// # Panics
/// If a promise is broken, or there is no such harness.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS
        .iter()
        .chain([&PLANTED])
        .find(|target| target.name == name);
    match target {
        Some(target) => (target.check)(bytes),
        None => panic!("no harness is called {name}"),
    }
}
