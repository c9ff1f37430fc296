//! Shows outboxd at work: Postgres, Kafka, the relay, the examples of both libraries (a service that moves
//! money, a ledger that books it, compliance that screens it), and a reader that prints the events. The
//! relay is killed, and the ledger; at the end table and topics are compared, and the books of both sides.
//!
//! `DEMO_SECONDS` ends it by itself, `DEMO_RATE` sets the transactions a second, `PG` the version
//! of Postgres.

mod events;
mod relay;
mod screen;
mod settings;
mod show;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().len() > 1 {
        eprintln!(
            "demo: there are no arguments. DEMO_SECONDS ends it by itself, DEMO_RATE sets the transactions a \
             second, PG the version of Postgres"
        );
        return ExitCode::FAILURE;
    }
    match show::run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
