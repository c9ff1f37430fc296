//! A table as retention sees it.

use envelope::{OptionalColumn, TableSpec};
use tokio_postgres::Client;

use crate::failure::Failure;
use crate::sql::{qualified, quote};
use crate::writeback::error::classify;

/// A table whose rows have an age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aged {
    pub oid: u32,
    /// Schema and name, quoted.
    pub name: String,
    /// The column of the event's time, quoted.
    pub time: String,
    pub is_partitioned: bool,
}

const TABLE: &str = "SELECT c.oid, c.relkind = 'p', EXISTS (SELECT FROM pg_attribute a \
       WHERE a.attrelid = c.oid AND a.attname = $3 AND NOT a.attisdropped \
         AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype)) \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')";

/// Looks the table up.
pub(super) async fn look(client: &Client, spec: &TableSpec) -> Result<Aged, Failure> {
    let table = format!("{}.{}", spec.schema, spec.table);
    let time = match &spec.columns.occurred_at {
        OptionalColumn::Unmapped => "",
        OptionalColumn::IfPresent(name) | OptionalColumn::Mapped(name) => name,
    };
    let rows = client
        .query(TABLE, &[&spec.schema, &spec.table, &time])
        .await;
    let rows = rows.map_err(|e| classify("looking at a table", &e))?;
    let Some(row) = rows.first() else {
        let message = format!("table {table} does not exist");
        return Err(Failure::new("table-missing", message));
    };
    if !row.get::<_, bool>(2) {
        let message = format!("table {table} has no column for the time of an event: {time:?}");
        return Err(Failure::new("retention-columns", message));
    }
    Ok(Aged {
        oid: row.get(0),
        name: qualified(&spec.schema, &spec.table),
        time: quote(time),
        is_partitioned: row.get(1),
    })
}
