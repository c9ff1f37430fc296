//! Reads the messages of Postgres's `pgoutput` plugin, protocol version 1, into borrowed values.
//!
//! ```text
//! XLogData payload ──parse──► Begin · Relation · Insert · … · Commit
//!                              │        │           └─ Tuple: values borrowed from the payload
//!                              │        └─ Relation: the owned copy a receiver caches per oid
//!                              └─ CommitLsn: with the index of a change, its Position
//! ```
//!
//! A transaction arrives whole, between its `Begin` and its `Commit`; transactions arrive in the
//! order of their commit records; aborted ones, and rolled-back savepoints, never arrive. A
//! `Relation` message precedes the first change of its table and the first change after each
//! alteration. Proved on captured streams by `transactions_are_whole_and_in_commit_order`,
//! `rolled_back_changes_never_arrive` and `an_altered_table_is_described_before_its_next_change`.
//!
//! The crate does no IO and knows neither clock nor connection. It never panics on what it is
//! given to parse, and parsing an `Insert` does not allocate.
//!
//! The layouts are those of "Logical Replication Message Formats" in the Postgres manual, and of
//! `src/backend/replication/logical/proto.c`.

pub mod encode;
mod error;
mod lsn;
mod message;
pub mod oid;
mod position;
mod reader;
mod relation;
mod text_form;
mod timestamp;
mod tuple;

pub use error::{MessageKind, ParseError, Problem};
pub use lsn::{CommitLsn, EndLsn, Lsn, LsnSyntaxError};
pub use message::{
    Begin, Commit, Insert, LogicalMessage, Message, Origin, RelationOids, Truncate,
    TruncateOptions, TypeMessage, parse,
};
pub use position::{Position, PositionSyntaxError};
pub use relation::{Column, ColumnMessage, Columns, Relation, RelationMessage};
pub use timestamp::PgTimestamp;
pub use tuple::{Tuple, Value, Values};
