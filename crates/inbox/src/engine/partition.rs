//! A partition while it is assigned.

use std::sync::Arc;

use rdkafka::consumer::base_consumer::PartitionQueue;

use crate::kafka::Context;
use crate::order::{Lane, Slot};
use crate::work::Once;

pub(super) struct Partition {
    pub slot: Slot,
    pub topic: Arc<str>,
    /// `None` if librdkafka does not know the partition: its records then come by the main queue.
    pub queue: Option<PartitionQueue<Context>>,
    /// What the group is known to have.
    pub committed: Option<i64>,
    /// Being given up, or about to be read anew: nothing of it is taken in.
    pub is_shut: bool,
}

impl Partition {
    pub fn lane(&self, once: Once, key: Option<&[u8]>, offset: i64) -> Lane {
        match once {
            Once::Inbox => Lane::of_key(self.slot, key, offset),
            Once::Offsets => Lane::of_partition(self.slot),
        }
    }
}
