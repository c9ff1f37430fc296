//! What is to be written back to the outbox tables.

use envelope::TableId;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It is durable in its topic.
    Sent,
    /// It is durable in the dead-letter topic.
    Failed {
        /// How often publishing it was tried.
        attempts: u32,
        /// Why it can't be published.
        error: &'a str,
    },
    /// It is durable in its topic, published from its dead letter.
    Revived,
    /// It is durable in its topic, published by a feed. Its row may say of an earlier time that it failed.
    Fed,
}

/// One row and its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark<'a> {
    /// The table.
    pub table: TableId,
    /// The text form of the row's id.
    pub id: &'a str,
    /// What became of it.
    pub outcome: Outcome<'a>,
}

/// The rows of some transactions, in one arena.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    text: String,
    rows: Vec<Row>,
    xids: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    table: TableId,
    id_end: usize,
    fate: Fate,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Sent,
    Failed { attempts: u32, error_end: usize },
    Revived,
    Fed,
}

impl Row {
    fn end(&self) -> usize {
        match self.fate {
            Fate::Failed { error_end, .. } => error_end,
            Fate::Sent | Fate::Revived | Fate::Fed => self.id_end,
        }
    }
}

impl Marks {
    /// Adds a row.
    pub fn push(&mut self, mark: Mark<'_>) {
        self.text.push_str(mark.id);
        let id_end = self.text.len();
        let fate = match mark.outcome {
            Outcome::Sent => Fate::Sent,
            Outcome::Revived => Fate::Revived,
            Outcome::Fed => Fate::Fed,
            Outcome::Failed { attempts, error } => {
                self.text.push_str(error);
                let error_end = self.text.len();
                Fate::Failed {
                    attempts,
                    error_end,
                }
            }
        };
        self.rows.push(Row {
            table: mark.table,
            id_end,
            fate,
        });
    }

    /// Adds a transaction that wrote some of the rows. A statement that does not see it yet would
    /// not find them: a commit is in the WAL before others see it, and with a synchronous standby
    /// long before.
    pub fn push_xid(&mut self, xid: u32) {
        const LONG_OVER: u32 = 0;
        if xid != LONG_OVER && self.xids.last() != Some(&xid) {
            self.xids.push(xid);
        }
    }

    /// The transactions that wrote the rows.
    pub fn xids(&self) -> &[u32] {
        &self.xids
    }

    /// The rows, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = Mark<'_>> {
        let mut start = 0;
        self.rows.iter().map(move |row| {
            let id = &self.text[start..row.id_end];
            let outcome = match row.fate {
                Fate::Sent => Outcome::Sent,
                Fate::Revived => Outcome::Revived,
                Fate::Fed => Outcome::Fed,
                Fate::Failed {
                    attempts,
                    error_end,
                } => Outcome::Failed {
                    attempts,
                    error: &self.text[row.id_end..error_end],
                },
            };
            start = row.end();
            Mark {
                table: row.table,
                id,
                outcome,
            }
        })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Removes everything; the memory is kept.
    pub fn clear(&mut self) {
        self.text.clear();
        self.rows.clear();
        self.xids.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_as_they_went_in() {
        let failed = Outcome::Failed {
            attempts: 6,
            error: "no such topic",
        };
        let rows = [
            ("a", Outcome::Sent),
            ("bc", failed),
            ("d", Outcome::Revived),
            ("f", Outcome::Fed),
        ];
        let mut marks = Marks::default();
        for (id, outcome) in rows {
            let table = TableId(3);
            marks.push(Mark { table, id, outcome });
            marks.push_xid(7);
        }
        let found: Vec<_> = marks.iter().map(|mark| (mark.id, mark.outcome)).collect();
        assert_eq!(found, rows);
        assert_eq!(marks.xids(), [7]);
        marks.clear();
        assert!(marks.is_empty() && marks.xids().is_empty());
    }
}
