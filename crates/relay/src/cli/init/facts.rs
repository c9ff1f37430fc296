//! What the database has already.

use envelope::TableSpec;
use tokio_postgres::Row;

use crate::cli::database::{MAY_STREAM, all, one};
use crate::config::{Pipeline, StateSpec};
use crate::failure::Failure;
use crate::source::catalog::Catalog;

/// What `init` needs to know of the database. `Default` knows of nothing, as in an empty database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DatabaseFacts {
    /// `None` where the server could not be asked.
    pub wal_level: Option<String>,
    /// One per configured table.
    pub tables: Vec<TableFacts>,
    pub publication: Option<Published>,
    pub relay: Option<RoleFacts>,
    /// Of a role that writes back in the relay's place.
    pub writer: Option<RoleFacts>,
    pub service: Option<RoleFacts>,
    pub has_slot: bool,
}

/// A configured table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TableFacts {
    pub schema_exists: bool,
    pub table: Option<Existing>,
}

/// A table that exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Existing {
    pub is_partitioned: bool,
    /// The publication has it, under its own name or under those of its partitions.
    pub is_published: bool,
    /// The names of its columns.
    pub columns: Vec<String>,
    /// The sequence of the `seq` column: schema and name.
    pub sequence: Option<(String, String)>,
    /// A function that writes events into it, called as that of `sql/` would be.
    pub has_emit: bool,
    /// It takes rows of those columns alone that the function of `sql/` writes.
    pub takes_emitted: bool,
}

/// The publication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Published {
    /// Such as `insert, update`, as `publish` is written.
    pub operations: String,
    pub inserts: bool,
    pub via_root: bool,
    pub all_tables: bool,
}

/// A role and what it may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RoleFacts {
    /// No right has to be granted to it.
    pub is_superuser: bool,
    pub streams: bool,
    pub connects: bool,
    /// One per configured table.
    pub tables: Vec<Rights>,
}

/// What a role may do with a table; `false` too where there is no table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rights {
    pub uses_schema: bool,
    pub reads_sequence: bool,
    pub inserts: bool,
    /// May write states back.
    pub writes_state: bool,
    /// May remove rows.
    pub prunes: bool,
}

impl Rights {
    pub const ALL: Self = Self {
        uses_schema: true,
        reads_sequence: true,
        inserts: true,
        writes_state: true,
        prunes: true,
    };
}

const PUBLICATION: &str = "SELECT pubinsert, pubviaroot, puballtables, concat_ws(', ', \
       CASE WHEN pubinsert THEN 'insert' END, CASE WHEN pubupdate THEN 'update' END, \
       CASE WHEN pubdelete THEN 'delete' END, CASE WHEN pubtruncate THEN 'truncate' END) \
     FROM pg_publication WHERE pubname = $1";

/// A sequence stands in the catalog beside its column: `deptype` `i` for identity, `a` for serial.
const TABLE: &str = "SELECT n.oid IS NOT NULL, c.oid IS NOT NULL, coalesce(c.relkind = 'p', false), \
       EXISTS (SELECT 1 FROM pg_publication_tables p WHERE p.pubname = $3 \
         AND p.schemaname = n.nspname AND p.tablename = c.relname) \
       OR EXISTS (SELECT 1 FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid \
         WHERE p.pubname = $3 AND r.prrelid = c.oid), \
       s.nspname::text, s.relname::text, \
       ARRAY(SELECT x.attname::text FROM pg_attribute x WHERE x.attrelid = c.oid \
         AND x.attnum > 0 AND NOT x.attisdropped), \
       EXISTS (SELECT 1 FROM pg_proc f WHERE f.pronamespace = n.oid \
         AND f.proname = ($2 || '_emit')::name), \
       (SELECT count(*) = 5 FROM pg_attribute x JOIN (VALUES ('id', 'uuid'), ('event_type', 'text'), \
           ('transfer_id', 'text'), ('payload', 'jsonb'), ('headers', 'jsonb')) e (name, type) \
         ON x.attname = e.name AND x.atttypid = e.type::regtype \
         WHERE x.attrelid = c.oid AND x.attidentity = '' AND x.attgenerated = '') \
       AND NOT EXISTS (SELECT 1 FROM pg_attribute x WHERE x.attrelid = c.oid AND x.attnum > 0 \
         AND NOT x.attisdropped AND x.attnotnull AND CASE \
           WHEN x.attname IN ('id', 'event_type', 'payload') THEN false \
           WHEN x.attname IN ('transfer_id', 'headers') THEN true \
           ELSE NOT x.atthasdef AND x.attidentity = '' END) \
     FROM (SELECT 1) one LEFT JOIN pg_namespace n ON n.nspname = $1 \
     LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = $2 AND c.relkind IN ('r', 'p') \
     LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $4 AND NOT a.attisdropped \
     LEFT JOIN LATERAL (SELECT sn.nspname, sc.relname FROM pg_depend d \
         JOIN pg_class sc ON sc.oid = d.objid AND sc.relkind = 'S' \
         JOIN pg_namespace sn ON sn.oid = sc.relnamespace \
         WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid \
           AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i') LIMIT 1) s ON true";

const RIGHTS: &str = "SELECT coalesce(has_schema_privilege(r.oid, n.oid, 'USAGE'), false), \
       coalesce((SELECT has_sequence_privilege(r.oid, sc.oid, 'SELECT, USAGE') \
         FROM pg_class sc JOIN pg_namespace sn ON sn.oid = sc.relnamespace \
         WHERE sn.nspname = $4 AND sc.relname = $5 AND sc.relkind = 'S'), false), \
       coalesce(has_table_privilege(r.oid, c.oid, 'INSERT'), false), \
       coalesce((SELECT bool_and(has_column_privilege(r.oid, c.oid, a.attnum, 'UPDATE')) \
         FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = ANY ($6) \
           AND NOT a.attisdropped), false) \
       AND coalesce((SELECT bool_and(has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')) \
         FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = ANY ($7) \
           AND NOT a.attisdropped), false), \
       coalesce(has_table_privilege(r.oid, c.oid, 'SELECT') \
         AND has_table_privilege(r.oid, c.oid, 'DELETE'), false) \
     FROM pg_roles r LEFT JOIN pg_namespace n ON n.nspname = $2 \
     LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = $3 \
     WHERE r.rolname = $1";

/// Who is to get which rights.
#[derive(Debug, Clone)]
pub(super) struct Roles {
    /// The role that `run` connects with.
    pub relay: String,
    /// The role that writes states back, if it is another one.
    pub writer: Option<String>,
    /// A role that writes events.
    pub service: Option<String>,
}

/// Looks at everything.
pub(super) async fn look(
    catalog: &Catalog,
    pipeline: &Pipeline,
    roles: &Roles,
) -> Result<DatabaseFacts, Failure> {
    let level = one(catalog, "SELECT current_setting('wal_level')", &[]).await?;
    let mut tables = Vec::with_capacity(pipeline.tables.len());
    for spec in &pipeline.tables {
        tables.push(table(catalog, &pipeline.postgres.publication, spec).await?);
    }
    let slot = catalog.slot(&pipeline.postgres.slot).await?;
    Ok(DatabaseFacts {
        wal_level: Some(level.get(0)),
        publication: publication(catalog, &pipeline.postgres.publication).await?,
        relay: role(catalog, &roles.relay, pipeline, &tables).await?,
        writer: maybe(catalog, roles.writer.as_deref(), pipeline, &tables).await?,
        service: maybe(catalog, roles.service.as_deref(), pipeline, &tables).await?,
        has_slot: slot.is_some(),
        tables,
    })
}

/// The columns that write-back reads, and those that it writes where they exist.
pub(super) fn state_columns<'a>(
    spec: &'a TableSpec,
    state: &'a StateSpec,
) -> (Vec<&'a str>, Vec<&'a str>) {
    use envelope::OptionalColumn::{IfPresent, Mapped, Unmapped};
    let optional = |column: &'a _| match column {
        Unmapped => None,
        IfPresent(name) | Mapped(name) => Some(name.as_str()),
    };
    let optional = [&state.attempts, &state.last_error]
        .into_iter()
        .filter_map(optional);
    let written = std::iter::once(state.state.as_str()).chain(optional);
    (vec![&spec.columns.id, &state.state], written.collect())
}

async fn publication(catalog: &Catalog, name: &str) -> Result<Option<Published>, Failure> {
    let rows = all(catalog, PUBLICATION, &[&name]).await?;
    Ok(rows.first().map(|row| Published {
        inserts: row.get(0),
        via_root: row.get(1),
        all_tables: row.get(2),
        operations: row.get(3),
    }))
}

async fn table(
    catalog: &Catalog,
    publication: &str,
    spec: &TableSpec,
) -> Result<TableFacts, Failure> {
    use envelope::OptionalColumn::{IfPresent, Mapped, Unmapped};
    let seq = match &spec.columns.seq {
        Unmapped => "",
        IfPresent(name) | Mapped(name) => name,
    };
    let row = one(
        catalog,
        TABLE,
        &[&spec.schema, &spec.table, &publication, &seq],
    )
    .await?;
    let exists: bool = row.get(1);
    Ok(TableFacts {
        schema_exists: row.get(0),
        table: exists.then(|| existing(&row)),
    })
}

fn existing(row: &Row) -> Existing {
    let (schema, name): (Option<String>, Option<String>) = (row.get(4), row.get(5));
    Existing {
        is_partitioned: row.get(2),
        is_published: row.get(3),
        columns: row.get(6),
        sequence: schema.zip(name),
        has_emit: row.get(7),
        takes_emitted: row.get(8),
    }
}

async fn maybe(
    catalog: &Catalog,
    name: Option<&str>,
    pipeline: &Pipeline,
    tables: &[TableFacts],
) -> Result<Option<RoleFacts>, Failure> {
    match name {
        Some(name) => role(catalog, name, pipeline, tables).await,
        None => Ok(None),
    }
}

async fn role(
    catalog: &Catalog,
    role: &str,
    pipeline: &Pipeline,
    tables: &[TableFacts],
) -> Result<Option<RoleFacts>, Failure> {
    let sql = format!(
        "SELECT {MAY_STREAM}, has_database_privilege(r.oid, current_database(), 'CONNECT'), \
           r.rolsuper \
         FROM pg_roles r WHERE rolname = $1"
    );
    let rows = all(catalog, &sql, &[&role]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let mut facts = RoleFacts {
        streams: row.get(0),
        connects: row.get(1),
        is_superuser: row.get(2),
        tables: Vec::with_capacity(tables.len()),
    };
    for ((_, spec, state), table) in pipeline.outboxes().zip(tables) {
        let (read, written) = state_columns(spec, state);
        let sequence = table.table.as_ref().and_then(|t| t.sequence.clone());
        let (schema, name) = sequence.unwrap_or_default();
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 7] = [
            &role,
            &spec.schema,
            &spec.table,
            &schema,
            &name,
            &written,
            &read,
        ];
        let row = one(catalog, RIGHTS, &params).await?;
        facts.tables.push(Rights {
            uses_schema: row.get(0),
            reads_sequence: row.get(1),
            inserts: row.get(2),
            writes_state: row.get(3),
            prunes: row.get(4),
        });
    }
    Ok(Some(facts))
}
