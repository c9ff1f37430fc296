//! The tables and their function, as versioned migrations.

use event::Migration;

/// All migrations, in order: the files of `sql/migrations/inbox`. They are named as sqlx reads them, and
/// psql runs them as they are. refinery wants other names, so it is given them from here; it takes no
/// version below the newest one, so they keep a history of their own:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let migrations = inbox::MIGRATIONS.iter().map(|migration| {
///     let name = format!("V{}__{}", migration.version, migration.name);
///     refinery::Migration::unapplied(&name, migration.sql)
/// });
/// let mut runner = refinery::Runner::new(&migrations.collect::<Result<Vec<_>, _>>()?);
/// runner.set_migration_table_name("inbox_migrations");
/// # Ok(())
/// # }
/// ```
///
/// A consumer needs one of the two tables: `inbox` with [`Once::Inbox`](crate::Once::Inbox), `inbox_offsets`
/// with [`Once::Offsets`](crate::Once::Offsets).
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 2026112511,
        name: "inbox",
        sql: include_str!("../../../sql/migrations/inbox/2026112511_inbox.sql"),
    },
    Migration {
        version: 2026112512,
        name: "inbox_offsets",
        sql: include_str!("../../../sql/migrations/inbox/2026112512_inbox_offsets.sql"),
    },
];
