//! Turns rows of an outbox table into Kafka records.
//!
//! ```text
//! TableSpec ──compile with a Relation──► RowMapper
//! Tuple ──────────────map──────────────►    │     ──► RecordBatch: topic, key, value, headers
//! Position, commit time ───────────────────►┘
//! ```
//!
//! The crate does no IO and knows neither clock nor connection. A row becomes the same record each
//! time, so publishing it again after a doubtful outcome changes nothing.
//!
//! The value is the envelope `{"eventId":…,"type":…,"occurredAt":…,"transferId":…,"payload":…}`,
//! always with these five members in this order, or the bare payload ([`Format`]). The payload
//! passes through byte for byte. Headers are [`RESERVED_HEADERS`], then the header columns of the
//! [`TableSpec`], then the row's own headers.

mod batch;
mod column;
mod compile;
pub mod dead_letter;
mod error;
mod feed;
mod json;
mod mapper;
mod policy;
mod record;
pub mod rfc3339;
mod row_headers;
mod salvage;
mod spec;
mod topic;

pub use batch::{RECORD_OVERHEAD_BYTES, RecordBatch};
pub use compile::{CompileError, Role};
pub use dead_letter::DeadLetter;
pub use error::{MapError, MapReason};
pub use feed::{REPLAY_HEADER, fed_position, is_fed, published_again};
pub use mapper::{Origin, RowMapper};
pub use policy::{TopicPattern, TopicPatternError, TopicPolicy, TopicRefusal};
pub use record::{
    CONTENT_TYPE_HEADER, EVENT_ID_HEADER, Fate, Headers, POSITION_HEADER, RESERVED_HEADERS, Record,
    TYPE_HEADER,
};
pub use spec::{ColumnMap, Format, HeaderColumn, OptionalColumn, TableId, TableSpec};
pub use topic::{TopicTemplate, TopicTemplateError};
