//! Write-back and retention on a real Postgres: what becomes of the rows, whatever is in the way.

#![allow(clippy::unwrap_used)]

mod bench;
mod executor;
mod obstacles;
mod prune;
mod setup;
