//! The source transaction that is being received.

use pgoutput::Begin;

use crate::TransactionPosition;
use crate::resume::Skip;

#[derive(Debug)]
pub(crate) struct OpenTransaction {
    pub begin: Begin,
    /// Changes seen so far.
    pub index: u64,
    pub skip: Skip,
    /// An earlier session has seen it come before the checkpoint's transaction.
    pub is_vouched: bool,
}

impl OpenTransaction {
    /// Whether the next change has been published before.
    pub fn skips_next(&self) -> bool {
        match self.skip {
            Skip::Nothing => false,
            Skip::First(count) => self.index < count,
            Skip::Everything => true,
        }
    }

    /// The position after the changes seen so far; none for what the checkpoint covers anyway.
    pub fn position(&self, complete: bool) -> Option<TransactionPosition> {
        if self.skip == Skip::Everything || self.index == 0 {
            return None;
        }
        Some(TransactionPosition {
            commit_lsn: self.begin.final_lsn,
            xid: self.begin.xid,
            commit_time_us: self.begin.commit_time.unix_micros(),
            index: self.index,
            complete,
        })
    }
}
