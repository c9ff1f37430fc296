//! The relay: joins the pure crates to Postgres, Kafka, configuration and operators.
//!
//! ```text
//!  source (stream, catalog) ──► pipeline (driver) ──► sink (lanes, checkpoints)
//!                                   │
//!                                   ├──► writeback, retention ──► the rows' state
//!                 telemetry ◄───────┘──► admin        cli, config: how it is started
//! ```

pub mod admin;
pub mod audit;
pub mod cli;
pub mod config;
pub mod consumer_lag;
pub mod dead_letters;
pub mod decryption;
#[cfg(test)]
mod documents;
pub mod failure;
pub mod feed;
pub mod pipeline;
pub mod repair;
pub mod requests;
pub mod retention;
pub mod sink;
pub mod source;
mod sql;
pub mod telemetry;
mod topics;
pub mod trace;
pub mod writeback;
