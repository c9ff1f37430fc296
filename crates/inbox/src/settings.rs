//! What a consumer was told.

use std::time::Duration;

use event::envelope::Format;

use crate::order::Retry;
use crate::work::Once;

/// Checked settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub topics: Vec<String>,
    pub format: Format,
    pub retry: Retry,
    pub once: Once,
    /// Batches at the same time.
    pub concurrency: usize,
    /// Events in a batch.
    pub batch: usize,
    /// Events of a partition that are held in memory.
    pub buffer: usize,
    /// Bytes of all partitions that are held in memory, about.
    pub buffer_bytes: usize,
    pub commit_interval: Duration,
    pub drain_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            topics: Vec::new(),
            format: Format::Envelope,
            retry: Retry::default(),
            once: Once::default(),
            concurrency: 4,
            batch: 1,
            buffer: 1_000,
            buffer_bytes: 64 * 1024 * 1024,
            commit_interval: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(20),
        }
    }
}
