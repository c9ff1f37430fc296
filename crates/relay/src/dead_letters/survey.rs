//! All entries of some dead-letter topics, each with what has become of it.

use std::collections::HashMap;

use envelope::dead_letter::{Entry, Found};

use super::{Letter, Reader};
use crate::failure::Failure;

/// What has become of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// `replayed` or `dropped`.
    pub kind: String,
    /// The request that did it.
    pub request: String,
}

/// Topics whose resolutions are known. Entries are read as often as they are asked for, so that no
/// more than the resolutions is held.
pub struct Survey {
    reader: Reader,
    topics: Vec<String>,
    /// By topic, partition and offset of the entry.
    resolutions: HashMap<(usize, i32, i64), Resolution>,
}

impl Survey {
    /// Reads the topics. One that does not exist has no entries.
    pub fn of(reader: Reader, topics: Vec<String>) -> Result<Self, Failure> {
        let mut resolutions = HashMap::new();
        for (topic, name) in topics.iter().enumerate() {
            reader.scan(name, |letter| {
                letter.read(|found| {
                    if let Found::Resolution {
                        partition,
                        offset,
                        resolution,
                        request,
                    } = found
                    {
                        let resolution = Resolution {
                            kind: resolution.to_owned(),
                            request: request.to_owned(),
                        };
                        // The first one did it.
                        let entry = resolutions.entry((topic, partition, offset));
                        entry.or_insert(resolution);
                    }
                });
                Ok(())
            })?;
        }
        Ok(Self {
            reader,
            topics,
            resolutions,
        })
    }

    /// What has become of entries.
    pub fn resolutions(&self) -> impl Iterator<Item = &Resolution> {
        self.resolutions.values()
    }

    /// Shows every entry, partition by partition, the oldest first.
    pub fn each(
        &self,
        mut show: impl FnMut(&Letter, &Entry<'_>, Option<&Resolution>),
    ) -> Result<(), Failure> {
        for (topic, name) in self.topics.iter().enumerate() {
            self.reader.scan(name, |letter| {
                letter.read(|found| {
                    if let Found::Entry(entry) = found {
                        let place = (topic, letter.partition, letter.offset);
                        show(&letter, &entry, self.resolutions.get(&place));
                    }
                });
                Ok(())
            })?;
        }
        Ok(())
    }
}
