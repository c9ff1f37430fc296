//! Writes events into a transactional outbox, in the caller's own transaction.
//!
//! ```no_run
//! use outbox::{Event, EventType};
//!
//! #[derive(serde::Serialize)]
//! struct Settled {
//!     amount_cents: i64,
//! }
//!
//! impl EventType for Settled {
//!     const TYPE: &'static str = "transfers.settled";
//! }
//!
//! # #[cfg(feature = "tokio-postgres")]
//! async fn settle(client: &mut tokio_postgres::Client, id: &str) -> Result<(), Box<dyn std::error::Error>> {
//!     let tx = client.transaction().await?;
//!     tx.execute("UPDATE transfers SET state = 'settled' WHERE id = $1", &[&id]).await?;
//!     outbox::emit(&tx, Event::of(&Settled { amount_cents: 1250 }).transfer_id(id)).await?;
//!     tx.commit().await?;
//!     Ok(())
//! }
//! ```
//!
//! What is committed is published, once; what is rolled back never is. So [`emit`] takes a transaction
//! and nothing else: an event can't be written beside the change that it tells of.
//!
//! * **Transactions** of tokio-postgres, deadpool-postgres and sqlx ([`Transaction`]).
//! * **Many events in one statement**: [`emit_all`].
//! * **Settings**, where the defaults do not fit: another table, other topics, a larger size,
//!   encryption ([`Outbox`]).
//! * **Checks** before the database sees the event, by the rules that the relay publishes by: what it
//!   would dead-letter is an error here, in the transaction that would have caused it ([`Refusal`]).
//! * **Traces** (feature `opentelemetry`): the current span's `traceparent` goes with the event.
//!
//! # Errors
//!
//! [`EmitError::Refused`] comes before the database is asked: the transaction is intact, and may go on
//! without the event. After any other error it must be rolled back.
//!
//! ```no_run
//! use outbox::{EmitError, Event, Outbox, Refusal, Transaction};
//!
//! /// Notes are sent if they fit.
//! async fn note(tx: impl Transaction, outbox: &Outbox, text: &str) -> Result<(), EmitError> {
//!     let event = Event::new("compliance.noted").payload(text);
//!     match outbox.emit(tx, event).await {
//!         Err(EmitError::Refused { refusal: Refusal::TooLarge { .. }, .. }) => Ok(()),
//!         written => written.map(drop),
//!     }
//! }
//! ```
//!
//! # Features
//!
//! | feature | brings |
//! |---|---|
//! | `tokio-postgres` (default), `deadpool`, `sqlx` | the driver's transactions |
//! | `encryption` | payloads, or fields of them, as JWE: `EncryptionPolicy` |
//! | `opentelemetry` | the current span's `traceparent` |
//!
//! # The table
//!
//! The table is made by `outboxd init`, or by [`MIGRATIONS`]. Other languages call the SQL function
//! `outbox_emit` of those migrations.

mod check;
#[cfg(feature = "encryption")]
mod encrypt;
mod error;
mod event;
mod json;
mod migrations;
mod outbox;
mod rows;
#[cfg(feature = "opentelemetry")]
mod trace;
mod transaction;

#[cfg(feature = "encryption")]
pub use ::event::encryption;
pub use ::event::{EventType, Migration};
pub use envelope::{TopicPattern, TopicPolicy, TopicRefusal, TopicTemplate};

#[cfg(feature = "encryption")]
pub use encrypt::{EncryptionPolicy, PolicyError};
pub use error::{DatabaseError, EmitError, Refusal};
pub use event::Event;
pub use migrations::MIGRATIONS;
pub use outbox::{Outbox, emit, emit_all};
pub use rows::Rows;
pub use transaction::Transaction;
pub use uuid::Uuid;
