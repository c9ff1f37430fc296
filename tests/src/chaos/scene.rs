//! What faults hit. Without this a run would prove little.

use std::fmt;

/// What was going on when faults struck.
#[derive(Debug, Default, Clone)]
pub struct Evidence {
    /// Faults.
    faults: u32,
    /// While the relay did not stream yet.
    pub starting: u32,
    /// While it had published, with committed rows yet to be published.
    pub publishing: u32,
    /// Relays killed inside a Kafka transaction, which was left open.
    pub in_transaction: u32,
    /// Records of such transactions, which no consumer may see.
    pub aborted_records: u64,
}

/// Runs shorter than this may miss by chance.
const TELLING_FAULTS: u32 = 10;

impl Evidence {
    /// Whether faults came while events were on their way: at least one of ten.
    pub fn is_telling(&self) -> bool {
        self.faults < TELLING_FAULTS || self.publishing * 10 >= self.faults
    }

    pub(super) fn add(&mut self, found: &Scene) {
        self.faults += 1;
        self.starting += u32::from(!found.streaming);
        self.publishing += u32::from(found.published && found.behind);
        self.in_transaction += u32::from(found.transaction_open);
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "faults while starting: {}, while publishing with rows to come: {}; kills inside a Kafka \
             transaction: {} ({} records aborted)",
            self.starting, self.publishing, self.in_transaction, self.aborted_records
        )
    }
}

/// What one fault hit.
#[derive(Debug)]
pub(super) struct Scene {
    pub streaming: bool,
    pub published: bool,
    pub behind: bool,
    pub transaction_open: bool,
}
