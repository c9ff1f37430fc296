//! End-to-end checks on real servers.
//!
//! ```text
//!  Stage (Postgres + Kafka) ◄── Writer ──► outbox ──► Relay (outboxd) ──► topics ──► Reader
//!                                  │                                                   │
//!                                  └────────────────► oracle ◄────────────────────────┘
//! ```

pub mod chaos;
pub mod cluster;
pub mod consumers;
pub mod downtime;
pub mod evidence;
pub mod https;
pub mod letters;
mod load;
pub mod oracle;
pub mod reader;
pub mod relay;
pub mod scenario;
pub mod scenarios;
pub mod stage;
pub mod supply;
pub mod wait;
pub mod writer;
