//! Positions in the write-ahead log.

use std::{fmt, str::FromStr};

use crate::text_form::serde_as_text;

/// A byte position in the write-ahead log (`XLogRecPtr`).
///
/// Its text form is Postgres's: two upper-case hexadecimal halves, as in `16/B374D848`. Also
/// read are lower case and up to eight digits per half, as `pg_lsn_in` does.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// `0/0`, which is no position: WAL starts later (`InvalidXLogRecPtr`).
    pub const INVALID: Lsn = Lsn(0);

    /// The position in bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl From<u64> for Lsn {
    fn from(bytes: u64) -> Lsn {
        Lsn(bytes)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is no [`Lsn`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {text:?} as an LSN: expected two hexadecimal halves, as in 16/B374D848")]
pub struct LsnSyntaxError {
    /// What was given.
    pub text: String,
}

impl FromStr for Lsn {
    type Err = LsnSyntaxError;

    fn from_str(text: &str) -> Result<Lsn, LsnSyntaxError> {
        let halves = text.split_once('/');
        let parsed = halves.and_then(|(high, low)| Some((half(high)?, half(low)?)));
        match parsed {
            Some((high, low)) => Ok(Lsn(u64::from(high) << 32 | u64::from(low))),
            None => Err(LsnSyntaxError {
                text: text.to_owned(),
            }),
        }
    }
}

/// One to eight hexadecimal digits; `from_str_radix` alone would take a sign as well.
fn half(digits: &str) -> Option<u32> {
    let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hexadecimal || digits.len() > 8 {
        return None;
    }
    u32::from_str_radix(digits, 16).ok()
}

/// Start of a transaction's commit record: `Begin.final_lsn`, and `Commit.commit_lsn` again.
///
/// It identifies and orders transactions of one timeline. A slot confirmed up to it sends that
/// transaction again; see [`EndLsn`]. Proved by `transactions_are_whole_and_in_commit_order`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitLsn(pub Lsn);

/// First byte after a transaction's commit record: `Commit.end_lsn`.
///
/// A slot confirmed up to it does not send that transaction again (`SnapBuildXactNeedsSkip`
/// skips what commits before the start point). Proved by
/// `transactions_are_whole_and_in_commit_order`: no later transaction commits before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndLsn(pub Lsn);

impl fmt::Display for CommitLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EndLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CommitLsn {
    type Err = LsnSyntaxError;

    fn from_str(text: &str) -> Result<CommitLsn, LsnSyntaxError> {
        text.parse().map(CommitLsn)
    }
}

impl FromStr for EndLsn {
    type Err = LsnSyntaxError;

    fn from_str(text: &str) -> Result<EndLsn, LsnSyntaxError> {
        text.parse().map(EndLsn)
    }
}

serde_as_text!(Lsn);
serde_as_text!(CommitLsn);
serde_as_text!(EndLsn);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn prints_as_postgres_does() {
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!(Lsn(0x16B_3748).to_string(), "0/16B3748");
        assert_eq!(Lsn(0x1_0000_000A).to_string(), "1/A");
        assert_eq!(Lsn::INVALID.to_string(), "0/0");
        assert_eq!(Lsn(u64::MAX).to_string(), "FFFFFFFF/FFFFFFFF");
    }

    #[test]
    fn reads_what_postgres_reads() {
        for text in ["16/B374D848", "16/b374d848", "00000016/B374D848"] {
            assert_eq!(text.parse(), Ok(Lsn(0x16_B374_D848)), "{text}");
        }
    }

    #[test]
    fn refuses_what_postgres_refuses() {
        for text in [
            "",
            "/",
            "1",
            "1/",
            "/1",
            "1/2/3",
            "+1/2",
            "-1/2",
            " 1/2",
            "G/0",
            "1/123456789",
        ] {
            let error = text.parse::<Lsn>().unwrap_err();
            assert_eq!(error.text, text);
        }
    }

    #[test]
    fn is_a_string_in_json() {
        let lsn = CommitLsn(Lsn(0x16_B374_D848));
        let json = serde_json::to_string(&lsn).unwrap();
        assert_eq!(json, r#""16/B374D848""#);
        assert_eq!(serde_json::from_str::<CommitLsn>(&json).unwrap(), lsn);
        let error = serde_json::from_str::<EndLsn>(r#""16""#).unwrap_err();
        assert!(
            error.to_string().contains("cannot read \"16\" as an LSN"),
            "{error}"
        );
    }
}
