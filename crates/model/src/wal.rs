//! The source: a fixed log of transactions, and places in it.

/// A place in the log. Transaction `i` has its commit record at `2i + 1` and ends at `2i + 2`.
pub type Lsn = u8;
/// Number of a row in the whole log, in commit order.
pub type RowId = u8;

/// How far one source transaction has been published (`delivery::TransactionPosition`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Number of the transaction.
    pub transaction: u8,
    /// Rows dealt with.
    pub index: u8,
    /// Whether its commit has been seen.
    pub complete: bool,
}

/// What a checkpoint says (`delivery::Progress`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Progress {
    /// The last transaction dealt with, wholly or in part.
    pub position: Option<Position>,
    /// The slot may be confirmed up to here.
    pub confirm: Lsn,
}

/// The rows of each transaction.
#[derive(Debug, Clone)]
pub struct Wal {
    rows: Vec<u8>,
}

impl Wal {
    /// A log of transactions with that many rows each.
    pub fn new(rows: &[u8]) -> Self {
        Self {
            rows: rows.to_vec(),
        }
    }

    /// How many transactions there are.
    pub fn transactions(&self) -> u8 {
        self.rows.len() as u8
    }

    /// How many rows a transaction has.
    pub fn rows_of(&self, transaction: u8) -> u8 {
        self.rows[usize::from(transaction)]
    }

    /// The first row of a transaction; of the one after the last, the number of rows.
    pub fn first_row(&self, transaction: u8) -> RowId {
        self.rows[..usize::from(transaction)].iter().sum()
    }

    /// How many rows there are.
    pub fn total_rows(&self) -> RowId {
        self.rows.iter().sum()
    }

    /// Start of the commit record (`Begin.final_lsn`).
    pub fn commit_lsn(transaction: u8) -> Lsn {
        2 * transaction + 1
    }

    /// First byte after the commit record (`Commit.end_lsn`).
    pub fn end_lsn(transaction: u8) -> Lsn {
        2 * transaction + 2
    }

    /// End of the last transaction.
    pub fn end(&self) -> Lsn {
        2 * self.transactions()
    }

    /// The first transaction that a slot confirmed up to `lsn` sends: the server skips those whose
    /// commit record starts below it (`SnapBuildXactNeedsSkip`).
    pub fn first_sent(&self, lsn: Lsn) -> u8 {
        (0..self.transactions())
            .find(|t| Self::commit_lsn(*t) >= lsn)
            .unwrap_or(self.transactions())
    }
}
