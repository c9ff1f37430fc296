//! End-to-end checks on real servers.
//!
//! ```text
//!  Stage (Postgres + Kafka) ◄── Writer ──► outbox ──► Relay (outboxd) ──► topics ──► Reader
//!                                  │                                                   │
//!                                  └────────────────► oracle ◄────────────────────────┘
//! ```

pub mod bank;
pub mod browser;
pub mod chaos;
pub mod cluster;
pub mod collector;
pub mod consumers;
pub mod dashboard;
pub mod downtime;
pub mod evidence;
pub mod exposition;
pub mod https;
pub mod letters;
mod load;
pub mod oracle;
pub mod prometheus;
pub mod promql;
pub mod reader;
pub mod relay;
pub mod runbook;
pub mod scenario;
pub mod scenarios;
pub mod stage;
pub mod supervised;
pub mod supply;
pub mod wait;
pub mod writer;
