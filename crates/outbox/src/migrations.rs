//! The table and its function, as versioned migrations.

use event::Migration;

/// All migrations, in order: the files of `sql/migrations/outbox`. They are named as sqlx reads them, and
/// psql runs them as they are. refinery wants other names, so it is given them from here; it takes no
/// version below the newest one, so they keep a history of their own:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let migrations = outbox::MIGRATIONS.iter().map(|migration| {
///     let name = format!("V{}__{}", migration.version, migration.name);
///     refinery::Migration::unapplied(&name, migration.sql)
/// });
/// let mut runner = refinery::Runner::new(&migrations.collect::<Result<Vec<_>, _>>()?);
/// runner.set_migration_table_name("outbox_migrations");
/// # Ok(())
/// # }
/// ```
///
/// What is needed besides them (publication, slot, topics, rights of the relay), `outboxd init` makes.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 2026112501,
        name: "outbox",
        sql: include_str!("../../../sql/migrations/outbox/2026112501_outbox.sql"),
    },
    Migration {
        version: 2026112502,
        name: "outbox_emit",
        sql: include_str!("../../../sql/migrations/outbox/2026112502_outbox_emit.sql"),
    },
];
