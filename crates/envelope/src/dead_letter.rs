//! Records of the dead-letter topic: an event as it was, and why it is there.
//!
//! The original headers come first, in their order, and [`HEADERS`] says how many they are; ours
//! follow. So the event can be told apart byte for byte, whatever its own headers are called.

mod known;
mod read;
mod write;

pub use known::{LONGEST_NAME, hex, key_digest, known_by};
pub use read::{Entry, Found, text};
pub use write::DeadLetter;

/// Why, for people.
pub const REASON: &str = "dead-letter.reason";
/// Why, as a stable code, such as `topic-missing` or `mapping/null-type`.
pub const CLASS: &str = "dead-letter.class";
/// What the class of a row that can't become an event begins with; the mapper's code follows.
pub const UNMAPPABLE: &str = "mapping/";
/// How often publishing was tried.
pub const ATTEMPTS: &str = "dead-letter.attempts";
/// The service whose event it is.
pub const SERVICE: &str = "dead-letter.service";
/// Schema and table of the row.
pub const TABLE: &str = "dead-letter.table";
/// The row's id.
pub const ROW_ID: &str = "dead-letter.row-id";
/// Commit LSN of the transaction that inserted the row.
pub const COMMIT_LSN: &str = "dead-letter.commit-lsn";
/// Position of the change that inserted the row.
pub const POSITION: &str = "dead-letter.position";
/// Where the event was to go, if that is known.
pub const TOPIC: &str = "dead-letter.topic";
/// When publishing it failed first.
pub const FIRST_FAILURE: &str = "dead-letter.first-failure";
/// When it failed last.
pub const LAST_FAILURE: &str = "dead-letter.last-failure";
/// The value only describes the event, which is too large for the topic.
pub const STUB: &str = "dead-letter.stub";
/// The request that has put it there again, or that it was resolved by.
pub const REQUEST: &str = "dead-letter.request";
/// Of an event that was published from a dead letter and is dead again: partition and offset of its
/// first one, which tell the order among the letters of its key.
pub const ORIGIN: &str = "dead-letter.origin";
/// How many of the headers are the event's own.
pub const HEADERS: &str = "dead-letter.headers";
/// Of a stub whose event has a longer key than [`LONGEST_NAME`]: the key's SHA-256, in hex.
pub const KEY_SHA256: &str = "dead-letter.key-sha256";
/// Partition and offset of the entry that a resolution is about.
pub const RESOLVES: &str = "dead-letter.resolves";
/// What has become of that entry.
pub const RESOLUTION: &str = "dead-letter.resolution";

#[cfg(test)]
mod tests;
