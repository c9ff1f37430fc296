//! Postgres errors of statements that change rows → failures.

use tokio_postgres::error::SqlState;

use crate::failure::{Failure, chain};
use crate::source;

/// A failure of a statement. It is transient if it passes by itself.
pub(crate) fn classify(attempt: &str, error: &tokio_postgres::Error) -> Failure {
    match error.code().and_then(code) {
        Some(code) => Failure::new(code, format!("{attempt}: {}", chain(error))),
        None => source::failure(attempt, error),
    }
}

/// `None` where it is no matter of the statement: the connection, the server, or a privilege.
fn code(state: &SqlState) -> Option<&'static str> {
    let blocked = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::OBJECT_IN_USE,
    ];
    if blocked.contains(state) {
        return Some("write-back-blocked");
    }
    match state.code() {
        "42703" => Some("write-back-columns"),
        "42P01" | "3F000" => Some("table-missing"),
        "42501" => None,
        // Insufficient resources, and the operator's intervention, of which a shutdown is one.
        state if state.starts_with("53") => Some("write-back-blocked"),
        state
            if ["08", "28", "57", "58", "XX"]
                .iter()
                .any(|class| state.starts_with(class)) =>
        {
            None
        }
        _ => Some("write-back-refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        for (state, expected) in [
            ("55P03", Some("write-back-blocked")),
            ("57014", Some("write-back-blocked")),
            ("40P01", Some("write-back-blocked")),
            ("25006", Some("write-back-blocked")),
            ("53300", Some("write-back-blocked")),
            ("53100", Some("write-back-blocked")),
            ("42703", Some("write-back-columns")),
            ("42P01", Some("table-missing")),
            ("42501", None),
            ("57P01", None),
            ("08006", None),
            ("23514", Some("write-back-refused")),
            ("22P02", Some("write-back-refused")),
            ("42883", Some("write-back-refused")),
            ("P0001", Some("write-back-refused")),
        ] {
            assert_eq!(code(&SqlState::from_code(state)), expected, "{state}");
        }
    }
}
