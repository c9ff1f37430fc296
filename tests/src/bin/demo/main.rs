//! Shows outboxd at work: Postgres, Kafka, the relay, a service that writes events and a reader
//! that prints them. In the middle the relay is killed; at the end table and topics are compared.
//!
//! `DEMO_SECONDS` ends it by itself, `DEMO_RATE` sets the transactions a second, `PG` the version
//! of Postgres.

mod events;
mod relay;
mod screen;
mod service;
mod settings;
mod show;

use std::process::ExitCode;

fn main() -> ExitCode {
    match show::run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
