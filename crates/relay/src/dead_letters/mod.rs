//! Reading dead-letter topics: for `outboxd dlq`, and to publish dead letters again.
//!
//! What a topic holds is told by its records alone: entries, and resolutions that name an entry by
//! partition and offset. An entry without one is open.

mod index;
mod reader;
mod service;
mod survey;

pub use index::{Index, Place};
pub use reader::{Letter, Reader};
pub use service::{Letters, Wanted};
pub use survey::{Resolution, Survey};

use crate::config::Pipeline;

/// The dead-letter topics of a service, or of all.
pub fn topics(pipeline: &Pipeline, service: Option<&str>) -> Vec<String> {
    let tables = pipeline
        .outboxes()
        .filter(|(_, table, _)| service.is_none_or(|service| service == table.service));
    let mut topics: Vec<_> = tables
        .map(|(id, ..)| pipeline.dead_letter(id).topic.clone())
        .collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}
