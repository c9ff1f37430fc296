//! What the producer library and the consumer library of outbox events share.
//!
//! ```text
//!  outbox ──► seal ──► row … relay … record ──► Envelope::read ──► open ──► inbox
//!                └───────────────── one KeyStore ────────────────────┘
//! ```
//!
//! [`envelope`] is an event as a consumer sees it, in the formats that the relay writes;
//! [`EventType`] is a payload that knows its type; [`Migration`] a part of the tables that a service needs;
//! `encryption` (a feature) seals payloads and opens them. Nothing here talks to Postgres or Kafka. The only IO is reading a keyring
//! (`Keyring::from_file`, `Keyring::from_env`), the only randomness that of keys and nonces.

#[cfg(feature = "encryption")]
pub mod encryption;
pub mod envelope;
mod migration;
mod typed;

pub use migration::Migration;
pub use typed::EventType;
