//! Which entries of some dead-letter topics are open, by their place.

use std::collections::HashSet;

use envelope::dead_letter::Found;
use pgoutput::Position;

use super::{Letter, Reader};
use crate::failure::Failure;

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Where its row was inserted: the order among entries.
    pub position: Option<Position>,
    /// Which of the topics.
    pub topic: usize,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// Open entries, in the order in which their rows were inserted.
#[derive(Debug, Default)]
pub struct Index {
    /// The topics.
    pub topics: Vec<String>,
    /// The entries.
    pub places: Vec<Place>,
}

impl Index {
    /// Reads the topics; takes the open entries that `wants` says.
    pub fn build(
        reader: &Reader,
        topics: Vec<String>,
        mut wants: impl FnMut(&Letter, &envelope::dead_letter::Entry<'_>) -> bool,
    ) -> Result<Self, Failure> {
        let mut places = Vec::new();
        let mut resolved = HashSet::new();
        for (topic, name) in topics.iter().enumerate() {
            reader.scan(name, |letter| {
                letter.read(|found| match found {
                    Found::Entry(entry) if wants(&letter, &entry) => places.push(Place {
                        position: entry.position.parse().ok(),
                        topic,
                        partition: letter.partition,
                        offset: letter.offset,
                    }),
                    Found::Entry(_) => {}
                    Found::Resolution {
                        partition, offset, ..
                    } => {
                        resolved.insert((topic, partition, offset));
                    }
                });
                Ok(())
            })?;
        }
        places.retain(|place| !resolved.contains(&(place.topic, place.partition, place.offset)));
        places.sort_unstable();
        Ok(Self { topics, places })
    }
}
