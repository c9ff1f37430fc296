//! The tables and functions, as versioned migrations.

/// A migration: what `sql/migrations` holds, for tools that take it from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its number, from 1.
    pub version: u32,
    /// What it makes, such as `outbox`.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
}

/// All migrations, in order. The files are named as sqlx reads them, and psql runs them as they are;
/// refinery wants other names for files, so it is given them from here:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let migrations = outbox::MIGRATIONS.iter().map(|migration| {
///     let name = format!("V{}__{}", migration.version, migration.name);
///     refinery::Migration::unapplied(&name, migration.sql)
/// });
/// let runner = refinery::Runner::new(&migrations.collect::<Result<Vec<_>, _>>()?);
/// # let _ = runner;
/// # Ok(())
/// # }
/// ```
///
/// What is needed besides them (publication, slot, topics, rights of the relay), `outboxd init` makes.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "outbox",
        sql: include_str!("../../../sql/migrations/0001_outbox.sql"),
    },
    Migration {
        version: 2,
        name: "outbox_emit",
        sql: include_str!("../../../sql/migrations/0002_outbox_emit.sql"),
    },
];
