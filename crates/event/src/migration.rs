//! Tables and functions of a service, as versioned migrations.

/// One of the files below `sql/migrations`, for tools that take it from memory. It can be run again.
///
/// Versions are a date and two digits, `yyyymmddNN`: neither numbers that begin at 1 nor timestamps to
/// the second are the same, so that it may stand among a service's own migrations. They fit into an
/// `i32`, which is all that refinery has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its version.
    pub version: i32,
    /// What it makes, such as `outbox`.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
}
