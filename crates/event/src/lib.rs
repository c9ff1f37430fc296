//! What the producer library and the consumer library of outbox events share.
//!
//! ```text
//!  outbox ──► seal ──► row … relay … record ──► open ──► inbox
//!                └──────── one KeyStore ─────────┘
//! ```
//!
//! Nothing here talks to Postgres or Kafka. The only IO is reading a keyring
//! ([`encryption::Keyring::from_file`], [`encryption::Keyring::from_env`]), the only randomness that
//! of keys and nonces.

#[cfg(feature = "encryption")]
pub mod encryption;
mod typed;

pub use typed::EventType;
