//! The write-ahead log: what services write, and the bytes in which the server tells of it.

mod encode;
mod event;
mod history;
mod schema;
mod writer;

pub use encode::Walsender;
pub use event::{EVENT_TYPES, Event};
pub use history::{Change, History, Item, Logged, Transaction};
pub use schema::{OUTBOX_OID, Schema, UNMAPPED_OID, unmapped};
pub use writer::Writer;
