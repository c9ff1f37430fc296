//! What is to be written, out of what was submitted.

use std::collections::BTreeMap;

use delivery::{Marks, Outcome};
use envelope::TableId;

use crate::config::WriteBack;

/// Longest text of an error that is written into a row.
const ERROR_CHARS: usize = 1_000;

/// The rows of one table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TableRows<'a> {
    /// Ids of published rows.
    pub sent: Vec<&'a str>,
    /// Ids of rows that are published though they may say that they failed: from their dead letters, or
    /// by a feed.
    pub revived: Vec<&'a str>,
    /// Ids of rows that a feed published, where only failures are written.
    pub recovered: Vec<&'a str>,
    /// Ids of rows that can't be published.
    pub failed: Vec<&'a str>,
    /// How often that was tried, of each of them.
    pub attempts: Vec<i32>,
    /// Why, of each of them.
    pub errors: Vec<String>,
}

/// What to write of some marks, by table.
pub(super) fn gather<'a>(
    marks: impl Iterator<Item = &'a Marks>,
    modes: &BTreeMap<TableId, WriteBack>,
) -> BTreeMap<TableId, TableRows<'a>> {
    let mut tables: BTreeMap<TableId, TableRows<'a>> = BTreeMap::new();
    for mark in marks.flat_map(Marks::iter) {
        let mode = modes.get(&mark.table).copied();
        let Some(mode) = mode.filter(|mode| mode.takes(&mark.outcome)) else {
            continue;
        };
        let rows = tables.entry(mark.table).or_default();
        match mark.outcome {
            Outcome::Sent => rows.sent.push(mark.id),
            Outcome::Fed if mode == WriteBack::Failures => rows.recovered.push(mark.id),
            Outcome::Revived | Outcome::Fed => rows.revived.push(mark.id),
            Outcome::Failed { attempts, error } => {
                rows.failed.push(mark.id);
                rows.attempts
                    .push(i32::try_from(attempts).unwrap_or(i32::MAX));
                rows.errors.push(shortened(error));
            }
        }
    }
    tables
}

/// A text may not hold NUL.
fn shortened(error: &str) -> String {
    let shown = |c| {
        if c == '\0' {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let mut chars = error.chars().map(shown);
    let mut text: String = chars.by_ref().take(ERROR_CHARS).collect();
    if chars.next().is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use delivery::Mark;

    use super::*;

    fn marks(rows: &[(u16, &str, Outcome<'_>)]) -> Marks {
        let mut marks = Marks::default();
        for (table, id, outcome) in rows {
            marks.push(Mark {
                table: TableId(*table),
                id,
                outcome: *outcome,
            });
        }
        marks
    }

    #[test]
    fn each_table_gets_what_its_mode_says() {
        let failed = Outcome::Failed {
            attempts: 6,
            error: "too large",
        };
        let all = ["a", "b", "c", "d"].map(|id| {
            let table = u16::from(id > "b");
            (
                table,
                id,
                if id == "b" || id == "d" {
                    failed
                } else {
                    Outcome::Sent
                },
            )
        });
        let modes = [
            (TableId(0), WriteBack::All),
            (TableId(1), WriteBack::Failures),
            (TableId(2), WriteBack::Off),
        ];
        let (one, other) = (
            marks(&all),
            marks(&[(2, "x", failed), (0, "e", Outcome::Sent)]),
        );
        let found = gather([&one, &other].into_iter(), &modes.into());
        let rows = |sent: &[&'static str], id| TableRows {
            sent: sent.to_vec(),
            revived: Vec::new(),
            recovered: Vec::new(),
            failed: vec![id],
            attempts: vec![6],
            errors: vec!["too large".into()],
        };
        let expected = [
            (TableId(0), rows(&["a", "e"], "b")),
            (TableId(1), rows(&[], "d")),
        ];
        assert_eq!(found, expected.into());
    }

    #[test]
    fn errors_are_cut_and_free_of_nul() {
        assert_eq!(shortened("a\0b"), "a\u{fffd}b");
        let long = "ü".repeat(ERROR_CHARS + 1);
        let expected = format!("{}…", "ü".repeat(ERROR_CHARS));
        assert_eq!(shortened(&long), expected);
        assert_eq!(
            shortened(&expected[..expected.len() - 3]).chars().count(),
            ERROR_CHARS
        );
    }
}
