//! Which transactions a statement sees.

use std::str::FromStr;

use crate::failure::Failure;

/// What `pg_current_snapshot()` says: transactions below `xmin` have ended, those from `xmax` on
/// have not, and between them those that are not listed. Numbers are 64 bits wide, with the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    running: Vec<u64>,
}

impl Snapshot {
    /// Whether a transaction has ended in it. `xid` is as in the WAL, without its epoch: it means
    /// the one of that number that is nearest to `xmax`, for transactions that are still in the WAL
    /// are never half the number space apart.
    pub fn has_ended(&self, xid: u32) -> bool {
        let xid = self.with_epoch(xid);
        xid < self.xmax && (xid < self.xmin || self.running.binary_search(&xid).is_err())
    }

    /// The oldest transaction that was running, without its epoch.
    pub fn oldest_running(&self) -> u32 {
        self.xmin as u32
    }

    fn with_epoch(&self, xid: u32) -> u64 {
        let ahead = xid.wrapping_sub(self.xmax as u32).cast_signed();
        self.xmax.saturating_add_signed(i64::from(ahead))
    }
}

impl FromStr for Snapshot {
    type Err = Failure;

    /// Reads `xmin:xmax:xid,xid`.
    fn from_str(text: &str) -> Result<Self, Failure> {
        parse(text).ok_or_else(|| {
            let message = format!("reading a snapshot: {text:?} is none");
            Failure::new("protocol", message)
        })
    }
}

fn parse(text: &str) -> Option<Snapshot> {
    let mut parts = text.splitn(3, ':');
    let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let running = parts.next()?.split(',').filter(|xid| !xid.is_empty());
    let running: Result<Vec<u64>, _> = running.map(str::parse).collect();
    let mut running = running.ok()?;
    running.sort_unstable();
    Some(Snapshot {
        xmin,
        xmax,
        running,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EPOCH: u64 = 1 << 32;

    fn ended(snapshot: &str, xid: u32) -> bool {
        snapshot.parse::<Snapshot>().unwrap().has_ended(xid)
    }

    #[test]
    fn a_transaction_has_ended_if_it_is_neither_listed_nor_to_come() {
        let snapshot = "100:105:103,101";
        for (xid, expected) in [
            (99, true),
            (100, true),
            (101, false),
            (102, true),
            (103, false),
            (104, true),
            (105, false),
            (106, false),
        ] {
            assert_eq!(ended(snapshot, xid), expected, "{xid}");
        }
        assert!(ended("7:7:", 6));
        assert!(!ended("7:7:", 7));
    }

    #[test]
    fn numbers_go_on_from_one_epoch_to_the_next() {
        let last = u32::MAX;
        let snapshot = format!("{}:{}:{}", 5 * EPOCH - 2, 5 * EPOCH + 4, 5 * EPOCH - 1);
        assert!(ended(&snapshot, last - 2), "below the oldest");
        assert!(!ended(&snapshot, last), "listed, of the epoch before");
        assert!(ended(&snapshot, 3));
        assert!(!ended(&snapshot, 4), "to come");
        // Just before the end of an epoch: the next number is a small one.
        let snapshot = format!("{}:{}:", 2 * EPOCH - 1, 2 * EPOCH - 1);
        assert!(ended(&snapshot, last - 1));
        assert!(!ended(&snapshot, last));
        assert!(!ended(&snapshot, 3), "of the next epoch");
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for text in ["", "1", "1:2", "a:2:", "1:2:x", "1:2:3,,x"] {
            assert!(text.parse::<Snapshot>().is_err(), "{text}");
        }
    }
}
