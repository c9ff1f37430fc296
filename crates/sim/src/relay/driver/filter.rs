//! What planted bugs do not let through.

use pgoutput::{Lsn, Message};

use super::{Bug, Driver};
use crate::wal::UNMAPPED_OID;

impl Driver<'_> {
    /// The filters of planted bugs.
    pub(super) fn filters(&mut self, message: &Message<'_>, lsn: Lsn) -> bool {
        if matches!(message, Message::Insert(_)) && self.context.has(Bug::SkipsByRowLsn) {
            let is_known = lsn <= self.last_row;
            self.last_row = self.last_row.max(lsn);
            return is_known;
        }
        let filtered = match message {
            Message::Insert(insert) => insert.relation_oid == UNMAPPED_OID,
            Message::Logical(_) | Message::Truncate(_) => true,
            _ => false,
        };
        filtered && self.context.is_odd() && self.context.has(Bug::CountsAfterFilter)
    }
}
