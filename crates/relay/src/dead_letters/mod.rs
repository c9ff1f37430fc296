//! Reading dead-letter topics: for `outboxd dlq`, and to publish dead letters again.
//!
//! What a topic holds is told by its records alone: entries, and resolutions that name an entry by
//! partition and offset. An entry without one is open.

mod index;
mod reader;
mod service;
mod survey;

pub use index::Index;
pub use reader::{Letter, Reader};
pub use service::{Letters, Wanted};
pub use survey::{Resolution, Survey};
