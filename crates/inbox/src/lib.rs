//! Handles each event of a Kafka topic once, in the transaction of a Postgres database.
//!
//! ```no_run
//! use inbox::{Consumer, Event, Failure, Handlers, Pool, Transaction};
//!
//! #[derive(serde::Deserialize)]
//! struct Settled {
//!     amount: i64,
//! }
//!
//! async fn post(event: Event<Settled>, tx: &Transaction<'_>) -> Result<(), Failure> {
//!     let sql = "INSERT INTO entries (transfer_id, amount) VALUES ($1, $2)";
//!     tx.execute(sql, &[&event.transfer_id(), &event.payload.amount]).await?;
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let database = "postgres://ledger@localhost/ledger".parse()?;
//!     let manager = deadpool_postgres::Manager::new(database, tokio_postgres::NoTls);
//!     let pool = Pool::builder(manager).max_size(5).build()?;
//!     let consumer = Consumer::builder("ledger")
//!         .brokers("localhost:9092")
//!         .topics(["transfers.settled"])
//!         .database(pool)
//!         .handlers(Handlers::new().on("transfers.settled", post))
//!         .build()?;
//!     // Until SIGTERM.
//!     consumer.run().await?;
//!     Ok(())
//! }
//! ```
//!
//! The database needs the table of `sql/inbox.sql`, which is one of the [`MIGRATIONS`], and Kafka a topic
//! for dead letters, here `ledger.dead-letter`.
//!
//! # What it promises
//!
//! * **Once.** The event's id goes into the table `inbox` in the same transaction in which the handler
//!   does its work. An event that is delivered again, for whatever reason, is passed over and counted.
//!   Only what a handler does *outside* that transaction can happen twice.
//! * **None is lost.** Offsets are committed behind the transaction, and never beyond an event that is
//!   neither handled nor durable in the dead-letter topic.
//! * **In order.** Events of one key and partition run one after the other, those of other keys at the
//!   same time ([`concurrency`]). An event that waits for its retry holds up its key, and nothing else.
//! * **Failures are told apart.** A handler's failure is tried again with backoff, up to
//!   [`Retry::max_attempts`], and then becomes a dead letter; [`Failure::permanent`], a record that is no
//!   event, and a payload that does not fit become one at once. A dead letter is not in the inbox: it can
//!   be published again, and is then handled. Nothing becomes a dead letter because the database or Kafka
//!   is away.
//! * **Slow is not dead.** The group's heartbeat goes on however long handlers take. Partitions are given
//!   up only when what runs of them has ended, or is rolled back ([`drain_timeout`]).
//!
//! # Many events in one transaction
//!
//! With [`batch`] above 1, what is at hand is handled in one transaction. If it fails, the event that is
//! at fault is found and put alone, and the others are handled without it. A [`BatchHandler`] gets the
//! events of a batch at once, for one statement.
//!
//! # Errors
//!
//! A handler's errors become a [`Failure`] by `?`; what follows, its documentation says. [`Consumer::run`]
//! itself ends with an [`Error`] only where a person has to act: a table or topic is missing, a setting is
//! wrong. Databases and brokers that are away are waited for.
//!
//! # Features
//!
//! | feature | brings |
//! |---|---|
//! | `encryption` | encrypted payloads are opened: `Handlers::keys` |
//! | `opentelemetry` | the span of an event is linked to the one in which it was written |
//!
//! [`batch`]: ConsumerBuilder::batch
//! [`concurrency`]: ConsumerBuilder::concurrency
//! [`drain_timeout`]: ConsumerBuilder::drain_timeout

mod builder;
mod claim;
mod consumer;
mod dead_letter;
mod engine;
mod error;
mod event;
mod failure;
mod handler;
mod handlers;
mod kafka;
mod metrics;
mod migrations;
mod opener;
mod order;
mod retention;
mod settings;
pub mod testing;
mod trace;
mod work;

#[cfg(feature = "encryption")]
pub use ::event::encryption;
pub use ::event::envelope::{Format, Headers, Payload};
pub use ::event::{EventType, Migration};
pub use deadpool_postgres::{Pool, Transaction};

pub use crate::builder::ConsumerBuilder;
pub use crate::consumer::Consumer;
pub use crate::error::Error;
pub use crate::event::{Event, Source};
pub use crate::failure::Failure;
pub use crate::handler::{BatchHandler, Handler};
pub use crate::handlers::{Handlers, Unknown};
pub use crate::metrics::Lag;
pub use crate::migrations::MIGRATIONS;
pub use crate::order::Retry;
pub use crate::retention::Retention;
pub use crate::work::Once;
