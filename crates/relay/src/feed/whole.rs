//! Which tables are published as a whole once a new slot's feed is: the rows that the slot's snapshot
//! has are in the feed, or known to be published. Only of such a table can retention tell, without
//! states, which rows may go.

use std::collections::BTreeSet;

use envelope::TableSpec;

use super::{Connection, literal, table_name};
use crate::config::{Pipeline, WriteBack};
use crate::failure::Failure;
use crate::sql::qualified;

/// A condition that no row meets.
const NO_ROW: &str = "false";

/// Whether any table needs the answer: of the others, `SENT` tells which rows may go.
pub fn matters(pipeline: &Pipeline) -> bool {
    let mut tables = pipeline.outboxes();
    tables.any(|(.., state)| state.mode != WriteBack::All)
}

/// The tables that a new slot's snapshot has no row of.
pub async fn empty(pipeline: &Pipeline, snapshot: &str) -> BTreeSet<String> {
    let looking = async {
        let connection = Connection::in_snapshot(&pipeline.postgres, snapshot).await?;
        let mut whole = BTreeSet::new();
        for (_, spec, _) in pipeline.outboxes() {
            if leaves_out_none(&connection, pipeline, spec, NO_ROW).await? {
                whole.insert(table_name(spec));
            }
        }
        Ok::<_, Failure>(whole)
    };
    looking.await.unwrap_or_else(|failure| {
        // The relay may have no right on rows, and needs none to publish them.
        tracing::info!(
            pipeline = pipeline.name,
            error = failure.message,
            "it is not known whether there are rows from before the slot"
        );
        BTreeSet::new()
    })
}

/// Whether every row of a table meets the condition, in the transaction of the connection, and every
/// later one is published. Not where a policy may hide rows.
pub async fn leaves_out_none(
    connection: &Connection,
    pipeline: &Pipeline,
    spec: &TableSpec,
    condition: &str,
) -> Result<bool, Failure> {
    let (schema, table) = (literal(&spec.schema), literal(&spec.table));
    let publication = literal(&pipeline.postgres.publication);
    let name = qualified(&spec.schema, &spec.table);
    let regclass = literal(&name);
    let sql = format!(
        "SELECT NOT EXISTS (SELECT FROM {name} t WHERE ({condition}) IS NOT TRUE) \
           AND NOT row_security_active({regclass}) AND NOT EXISTS (SELECT FROM pg_publication_tables p WHERE p.pubname = {publication} \
             AND p.schemaname = {schema} AND p.tablename = {table} \
             AND to_jsonb(p)->>'rowfilter' IS NOT NULL)"
    );
    let rows = connection.rows(&sql, &[]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}
