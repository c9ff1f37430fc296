//! Which changes of the stream have been published before.

use std::collections::BTreeSet;

use pgoutput::{Begin, Lsn};

use crate::{Exceptions, FeedProgress, Halt, TransactionPosition};

/// Where the stream is taken up again.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// The checkpoint's position.
    pub position: Option<TransactionPosition>,
    /// The checkpoint's `confirmed_up_to`.
    pub confirmed_up_to: Lsn,
    /// Without a position: everything that commits below is published all the same, by a relay whose
    /// position a promotion has voided. Otherwise nothing ever was.
    pub floor: Lsn,
    /// The slot's `confirmed_flush_lsn`: the server resends every transaction whose commit record
    /// starts at or after it (`SnapBuildXactNeedsSkip` in `snapbuild.c`).
    pub slot_confirmed: Lsn,
    /// The checkpoint's `settled_below`.
    pub settled_below: Lsn,
    /// After a promotion: where the checkpoint's timeline ends. Positions from here on are void,
    /// for the new timeline uses the same LSNs for other transactions.
    pub void_from: Option<Lsn>,
    /// A feed that was under way.
    pub feed: Option<FeedProgress>,
    /// Tables that are published as a whole.
    pub whole_tables: BTreeSet<String>,
    /// Parked keys, and dead letters whose rows may not say so.
    pub exceptions: Exceptions,
}

/// How many of a transaction's changes to skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    Nothing,
    First(u64),
    Everything,
}

/// Compares the stream with the checkpoint.
#[derive(Debug)]
pub(crate) struct Skipper {
    position: Option<TransactionPosition>,
    floor: Lsn,
    void_from: Option<Lsn>,
    /// The checkpoint's transaction must come by before anything later.
    awaited: bool,
    /// A transaction has come that is not skipped, or not wholly: nor are those behind it.
    is_past: bool,
}

impl Skipper {
    pub fn new(resume: &Resume) -> Self {
        let exists = |p: &TransactionPosition| resume.void_from.is_none_or(|v| p.commit_lsn.0 < v);
        let awaited = resume
            .position
            .is_some_and(|p| exists(&p) && resume.slot_confirmed <= p.commit_lsn.0);
        Self {
            position: resume.position,
            floor: resume.floor,
            void_from: resume.void_from,
            awaited,
            is_past: false,
        }
    }

    /// Whether the next transaction may be one that is skipped.
    pub fn may_skip(&self) -> bool {
        !self.is_past
    }

    /// The checkpoint's transaction has not come by yet: until then what is skipped is not known to
    /// be what was published.
    pub fn awaits(&self) -> bool {
        self.awaited
    }

    /// A transaction begins.
    pub fn skip(&mut self, begin: &Begin) -> Result<Skip, Halt> {
        let skip = self.compare(begin)?;
        self.is_past |= skip != Skip::Everything;
        Ok(skip)
    }

    fn compare(&mut self, begin: &Begin) -> Result<Skip, Halt> {
        let Some(position) = self.position else {
            let done = begin.final_lsn.0 < self.floor;
            return Ok(if done {
                Skip::Everything
            } else {
                Skip::Nothing
            });
        };
        if self.void_from.is_some_and(|void| begin.final_lsn.0 >= void) {
            return Ok(Skip::Nothing);
        }
        if begin.final_lsn < position.commit_lsn {
            return Ok(Skip::Everything);
        }
        if begin.final_lsn > position.commit_lsn {
            return self.passed(begin.final_lsn.0).map(|()| Skip::Nothing);
        }
        self.awaited = false;
        same_transaction(begin, &position)?;
        Ok(if position.complete {
            Skip::Everything
        } else {
            Skip::First(position.index)
        })
    }

    /// The stream has shown everything that commits below `lsn`.
    pub fn passed(&self, lsn: Lsn) -> Result<(), Halt> {
        match self.position {
            Some(position) if self.awaited && lsn > position.commit_lsn.0 => {
                Err(Halt::TransactionMissing {
                    commit_lsn: position.commit_lsn,
                })
            }
            _ => Ok(()),
        }
    }
}

fn same_transaction(begin: &Begin, position: &TransactionPosition) -> Result<(), Halt> {
    let same_time = begin.commit_time.unix_micros() == position.commit_time_us;
    if begin.xid == position.xid && same_time {
        return Ok(());
    }
    Err(Halt::TransactionForeign {
        commit_lsn: begin.final_lsn,
        recorded: position.xid,
        found: begin.xid,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pgoutput::{CommitLsn, PgTimestamp};

    use super::*;

    fn begin(commit_lsn: u64) -> Begin {
        Begin {
            final_lsn: CommitLsn(Lsn::from(commit_lsn)),
            commit_time: PgTimestamp(0),
            xid: 7,
        }
    }

    fn resume(commit_lsn: u64, index: u64, complete: bool) -> Resume {
        let position = TransactionPosition {
            commit_lsn: CommitLsn(Lsn::from(commit_lsn)),
            xid: 7,
            commit_time_us: PgTimestamp(0).unix_micros(),
            index,
            complete,
        };
        Resume {
            position: Some(position),
            ..Resume::default()
        }
    }

    #[test]
    fn skips_what_lies_below_and_at_a_complete_position() {
        let mut skipper = Skipper::new(&resume(50, 3, true));
        assert_eq!(skipper.skip(&begin(40)).unwrap(), Skip::Everything);
        assert_eq!(skipper.skip(&begin(50)).unwrap(), Skip::Everything);
        assert_eq!(skipper.skip(&begin(51)).unwrap(), Skip::Nothing);
    }

    #[test]
    fn skips_the_published_part_of_a_split_transaction() {
        let mut skipper = Skipper::new(&resume(50, 3, false));
        assert_eq!(skipper.skip(&begin(50)).unwrap(), Skip::First(3));
    }

    #[test]
    fn stops_when_the_awaited_transaction_does_not_come() {
        let mut skipper = Skipper::new(&resume(50, 3, true));
        assert!(matches!(
            skipper.skip(&begin(51)),
            Err(Halt::TransactionMissing { .. })
        ));
        assert!(skipper.passed(Lsn::from(50)).is_ok());
        assert!(matches!(
            skipper.passed(Lsn::from(51)),
            Err(Halt::TransactionMissing { .. })
        ));
    }

    #[test]
    fn does_not_await_what_the_slot_has_confirmed() {
        let resume = Resume {
            slot_confirmed: Lsn::from(60),
            ..resume(50, 3, true)
        };
        assert_eq!(
            Skipper::new(&resume).skip(&begin(60)).unwrap(),
            Skip::Nothing
        );
    }

    #[test]
    fn stops_at_another_transaction_with_the_same_lsn() {
        let mut skipper = Skipper::new(&resume(50, 3, true));
        let other = Begin {
            xid: 8,
            ..begin(50)
        };
        assert!(matches!(
            skipper.skip(&other),
            Err(Halt::TransactionForeign { .. })
        ));
        let later = Begin {
            commit_time: PgTimestamp(1),
            ..begin(50)
        };
        assert!(matches!(
            skipper.skip(&later),
            Err(Halt::TransactionForeign { .. })
        ));
    }

    #[test]
    fn positions_above_the_switch_point_are_void() {
        let resume = Resume {
            void_from: Some(Lsn::from(45)),
            ..resume(50, 3, true)
        };
        let mut skipper = Skipper::new(&resume);
        assert_eq!(skipper.skip(&begin(44)).unwrap(), Skip::Everything);
        assert_eq!(skipper.skip(&begin(45)).unwrap(), Skip::Nothing);
        assert_eq!(skipper.skip(&begin(50)).unwrap(), Skip::Nothing);
    }

    #[test]
    fn without_a_position_only_what_lies_below_the_floor_is_done() {
        let resume = Resume {
            floor: Lsn::from(45),
            confirmed_up_to: Lsn::from(60),
            ..Resume::default()
        };
        let mut skipper = Skipper::new(&resume);
        assert_eq!(skipper.skip(&begin(44)).unwrap(), Skip::Everything);
        assert_eq!(skipper.skip(&begin(45)).unwrap(), Skip::Nothing);
    }
}
