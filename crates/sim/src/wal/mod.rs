//! The write-ahead log: what services write, and the bytes in which the server tells of it.

mod control;
mod encode;
mod event;
mod history;
mod schema;
mod writer;

pub use control::{Demand, Operation};
pub use encode::Walsender;
pub use event::{EVENT_TYPES, Event, Flaw, POISON, SOUND_TYPES};
pub use history::{Change, History, Item, Logged, Transaction};
pub use schema::{CONTROL_OID, OUTBOX_OID, Schema, UNMAPPED_OID, control, unmapped};
pub use writer::Writer;
