//! What keeps its order: events of one key in one partition.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A partition while it is assigned. Assigned again, it is another slot, so that what comes late from
/// before can't be taken for the new one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot(pub u64);

/// Events of one lane run one after the other, in the order of their offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    pub slot: Slot,
    /// Two keys with the same hash share a lane, which only makes one wait for the other.
    hash: u64,
}

impl Lane {
    /// The lane of a key. Events without a key have no order among each other.
    pub fn of_key(slot: Slot, key: Option<&[u8]>, offset: i64) -> Self {
        let mut hasher = DefaultHasher::new();
        match key {
            Some(key) => key.hash(&mut hasher),
            None => offset.hash(&mut hasher),
        }
        let hash = hasher.finish();
        Self { slot, hash }
    }

    /// The only lane of a partition whose events all keep their order.
    pub fn of_partition(slot: Slot) -> Self {
        Self { slot, hash: 0 }
    }
}
