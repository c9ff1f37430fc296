//! Feeds: rows that are published besides the stream.
//!
//! ```text
//!  backfill, repair ─► gather, in the new slot's snapshot ─┐
//!                                                          ├─► outboxd.feed_rows ─► Reader ─► driver
//!  replay ─► gather, in the transaction of its request ────┘
//! ```
//!
//! A feed is a list of row ids in an order of its own, kept in a table of the served database: an
//! exported snapshot dies with its session, the list does not. The checkpoint says how far a feed has
//! got, in the same Kafka transaction as its events.

mod confirmed;
mod connection;
pub mod gather;
mod lock;
mod lookup;
mod reader;
mod requests;
pub mod shape;
mod tuple;
pub mod whole;

pub use confirmed::confirmed;
pub use connection::Connection;
pub use lock::{Lock, held};
pub use reader::{Fed, Reader, Row};
pub use requests::{
    discard, discard_published, new_request, present, require, require_published, sweep,
};
pub use tuple::with_tuple;

use envelope::TableSpec;

/// Quotes a text, where `standard_conforming_strings` is on.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// How `feed_rows` calls a table.
pub fn table_name(spec: &TableSpec) -> String {
    format!("{}.{}", spec.schema, spec.table)
}
