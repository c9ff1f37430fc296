//! The place of one change in the stream.

use std::{fmt, str::FromStr};

use crate::{lsn::CommitLsn, text_form::serde_as_text};

/// The place of one change in the stream: its transaction, and its index therein.
///
/// Positions are unique and ordered as the changes arrive, on one timeline. The LSN of the change
/// itself would be neither: rows of one COPY share a WAL record, as
/// `rows_of_one_statement_can_share_an_lsn` proves. The text form is `0/16B3748:3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The transaction.
    pub commit_lsn: CommitLsn,
    /// The number of changes (inserts and transactional logical messages) of that transaction
    /// that arrived before this one, counted before any filter.
    pub index: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.commit_lsn, self.index)
    }
}

/// A text that is no [`Position`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {text:?} as a position: expected LSN:index, as in 0/16B3748:3")]
pub struct PositionSyntaxError {
    /// What was given.
    pub text: String,
}

impl FromStr for Position {
    type Err = PositionSyntaxError;

    fn from_str(text: &str) -> Result<Position, PositionSyntaxError> {
        let parts = text.split_once(':');
        let parsed = parts.and_then(|(lsn, digits)| Some((lsn.parse().ok()?, index(digits)?)));
        match parsed {
            Some((commit_lsn, index)) => Ok(Position { commit_lsn, index }),
            None => Err(PositionSyntaxError {
                text: text.to_owned(),
            }),
        }
    }
}

/// Decimal digits only; `u64::from_str` alone would take a sign as well.
fn index(digits: &str) -> Option<u64> {
    let decimal = digits.bytes().all(|byte| byte.is_ascii_digit());
    if decimal { digits.parse().ok() } else { None }
}

serde_as_text!(Position);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::lsn::Lsn;

    fn position(lsn: u64, index: u64) -> Position {
        Position {
            commit_lsn: CommitLsn(Lsn(lsn)),
            index,
        }
    }

    #[test]
    fn prints_and_reads_lsn_and_index() {
        for (value, text) in [
            (position(0x16B_3748, 3), "0/16B3748:3"),
            (
                position(u64::MAX, u64::MAX),
                "FFFFFFFF/FFFFFFFF:18446744073709551615",
            ),
        ] {
            assert_eq!(value.to_string(), text);
            assert_eq!(text.parse(), Ok(value));
        }
    }

    #[test]
    fn orders_by_transaction_then_index() {
        assert!(position(1, 9) < position(2, 0));
        assert!(position(2, 0) < position(2, 1));
    }

    #[test]
    fn refuses_other_texts() {
        let overflow = "0/1:18446744073709551616";
        for text in [
            "", "0/1", "0/1:", "0/1:+1", "0/1:-1", "0/1:1:1", "1:1", ":1", overflow,
        ] {
            assert_eq!(text.parse::<Position>().unwrap_err().text, text);
        }
    }

    #[test]
    fn is_a_string_in_json() {
        let json = serde_json::to_string(&position(0x16B_3748, 3)).unwrap();
        assert_eq!(json, r#""0/16B3748:3""#);
        assert_eq!(
            serde_json::from_str::<Position>(&json).unwrap(),
            position(0x16B_3748, 3)
        );
    }
}
