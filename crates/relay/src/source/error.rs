//! Postgres errors → failures.

use std::time::Duration;

use pgwire_replication::PgWireError;
use tokio_postgres::error::SqlState;

use crate::failure::{Failure, chain};

/// The code of a server that does not answer.
pub(crate) const SILENT: &str = "postgres-silent";

/// A server that has not answered in time.
pub(crate) fn silent(attempt: &str, patience: Duration) -> Failure {
    let seconds = patience.as_secs();
    Failure::new(SILENT, format!("{attempt}: no answer for {seconds} s"))
}

/// A failure of the replication connection.
pub(super) fn replication(attempt: &str, error: &PgWireError) -> Failure {
    let code = match error {
        PgWireError::Server(text) | PgWireError::Auth(text) => {
            sqlstate(text).map_or("postgres-lost", |state| by_sqlstate(state, text))
        }
        PgWireError::Tls(_) => "postgres-tls",
        PgWireError::MessageTooLarge { .. } => "protocol",
        PgWireError::Protocol(_) => "protocol",
        _ => "postgres-lost",
    };
    Failure::new(code, format!("{attempt}: {error}"))
}

/// A failure of a query on an ordinary connection.
pub(crate) fn catalog(attempt: &str, error: &tokio_postgres::Error) -> Failure {
    let code = match error.as_db_error() {
        Some(db) => by_sqlstate(db.code().code(), db.message()),
        None if error.is_closed() => "postgres-lost",
        None => "postgres-unreachable",
    };
    Failure::new(code, format!("{attempt}: {}", chain(error)))
}

fn by_sqlstate(state: &str, message: &str) -> &'static str {
    let is = |other: &SqlState| state == other.code();
    if is(&SqlState::ADMIN_SHUTDOWN)
        || is(&SqlState::CANNOT_CONNECT_NOW)
        || is(&SqlState::CRASH_SHUTDOWN)
    {
        return "postgres-shutdown";
    }
    if is(&SqlState::OBJECT_IN_USE) {
        return "slot-active";
    }
    if state.starts_with("28") {
        return "postgres-auth";
    }
    if is(&SqlState::INVALID_CATALOG_NAME) {
        return "database-missing";
    }
    if is(&SqlState::CONFIGURATION_LIMIT_EXCEEDED) {
        return "slots-exhausted";
    }
    if is(&SqlState::INSUFFICIENT_PRIVILEGE) {
        let denied = message.contains("WAL sender") || message.contains("replication");
        return if denied {
            "replication-denied"
        } else {
            "permission-denied"
        };
    }
    if is(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) {
        return prerequisite(message);
    }
    if is(&SqlState::UNDEFINED_OBJECT) {
        return if message.contains("publication") {
            "publication-missing"
        } else {
            "slot-missing"
        };
    }
    if is(&SqlState::QUERY_CANCELED) || is(&SqlState::LOCK_NOT_AVAILABLE) {
        return "catalog-blocked";
    }
    "postgres-lost"
}

/// 55000 is raised for a low wal_level and for an invalidated slot (`logical.c`).
fn prerequisite(message: &str) -> &'static str {
    if message.contains("wal_level") {
        "wal-level"
    } else {
        "slot-lost"
    }
}

/// The replication client keeps the SQLSTATE in its error text only.
fn sqlstate(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("SQLSTATE ")?;
    rest.get(..5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replication_errors_are_told_apart_by_sqlstate() {
        let cases = [
            (
                "replication slot \"s\" is active for PID 7 (SQLSTATE 55006)",
                "slot-active",
            ),
            (
                "permission denied to start WAL sender (SQLSTATE 42501)",
                "replication-denied",
            ),
            (
                "password authentication failed for user \"u\" (SQLSTATE 28P01)",
                "postgres-auth",
            ),
            (
                "logical decoding requires \"wal_level\" >= \"logical\" (SQLSTATE 55000)",
                "wal-level",
            ),
            (
                "can no longer access replication slot \"s\" (SQLSTATE 55000)",
                "slot-lost",
            ),
            (
                "publication \"p\" does not exist (SQLSTATE 42704)",
                "publication-missing",
            ),
            (
                "replication slot \"s\" does not exist (SQLSTATE 42704)",
                "slot-missing",
            ),
            (
                "terminating connection due to administrator command (SQLSTATE 57P01)",
                "postgres-shutdown",
            ),
            (
                "canceling statement due to statement timeout (SQLSTATE 57014)",
                "catalog-blocked",
            ),
            ("something else (SQLSTATE XX000)", "postgres-lost"),
            ("no state at all", "postgres-lost"),
        ];
        for (text, code) in cases {
            let failure = replication("streaming", &PgWireError::Server(text.into()));
            assert_eq!(failure.code.name, code, "{text}");
        }
    }
}
