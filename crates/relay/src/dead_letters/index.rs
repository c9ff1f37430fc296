//! Which entries of some dead-letter topics are open, by their place.

use std::collections::HashSet;

use delivery::{Place, Places};
use envelope::dead_letter::Found;

use super::{Letter, Reader};
use crate::failure::Failure;

/// Open entries, those of each key in the order in which they became dead.
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
        goes_on: impl Fn() -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let mut places = Places::default();
        let mut resolved = HashSet::new();
        for (topic, name) in topics.iter().enumerate() {
            reader.scan(name, |letter| {
                letter.read(|found| match found {
                    Found::Entry(entry) if wants(&letter, &entry) => {
                        let place = (topic, letter.partition, letter.offset);
                        places.push(place, &entry, letter.key.as_deref(), letter.timestamp_ms);
                    }
                    Found::Entry(_) => {}
                    Found::Resolution {
                        partition, offset, ..
                    } => {
                        resolved.insert((topic, partition, offset));
                    }
                });
                goes_on()
            })?;
        }
        places.retain(|place| !resolved.contains(&(place.topic, place.partition, place.offset)));
        let places = places.in_order();
        Ok(Self { topics, places })
    }
}
