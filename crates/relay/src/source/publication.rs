//! The publication: whether it covers the configured tables, and in which definition.

use delivery::{Coverage, Fingerprint};
use envelope::TableSpec;

use super::catalog::Catalog;
use crate::failure::Failure;

/// A table of the publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedTable {
    /// Schema name.
    pub schema: String,
    /// Table name.
    pub table: String,
    /// Its oid: a table dropped and made again is another one.
    pub oid: u32,
    /// The row filter, if any.
    pub row_filter: Option<String>,
    /// Identifies its membership; none in a publication of all tables.
    membership: Option<String>,
}

/// The publication as the catalog shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicationFacts {
    name: String,
    oid: u32,
    revision: String,
    inserts: bool,
    via_root: bool,
    tables: Vec<PublishedTable>,
}

/// `xmin` changes whenever the publication is altered, even if that is undone.
const PUBLICATION: &str =
    "SELECT oid, xmin::text, pubinsert, pubviaroot FROM pg_publication WHERE pubname = $1";

/// A table's membership, by itself or (from 15 on) by its schema, is a catalog row of its own, which
/// is made again when the table is taken out and put back.
fn tables_sql(server_version: i32) -> String {
    let by_schema = match server_version {
        150_000.. => {
            "(SELECT s.oid || ' ' || s.xmin::text FROM pg_publication_namespace s \
             WHERE s.pnpubid = p.oid AND s.pnnspid = n.oid)"
        }
        _ => "NULL",
    };
    format!(
        "SELECT t.schemaname::text, t.tablename::text, c.oid, to_jsonb(t)->>'rowfilter', \
         coalesce((SELECT r.oid || ' ' || r.xmin::text FROM pg_publication_rel r \
         WHERE r.prpubid = p.oid AND r.prrelid = c.oid), {by_schema}) \
         FROM pg_publication_tables t \
         JOIN pg_publication p ON p.pubname = t.pubname \
         JOIN pg_namespace n ON n.nspname = t.schemaname \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
         WHERE t.pubname = $1 ORDER BY c.oid"
    )
}

impl PublicationFacts {
    /// Reads the publication; a missing one is a failure.
    pub async fn read(catalog: &Catalog, name: &str) -> Result<Self, Failure> {
        let rows = catalog.all(PUBLICATION, &[&name]).await?;
        let Some(row) = rows.first() else {
            let message = format!("publication {name:?} does not exist");
            return Err(Failure::new("publication-missing", message));
        };
        let tables = tables_sql(catalog.server_version());
        let tables = catalog.all(&tables, &[&name]).await?;
        let table = |row: &tokio_postgres::Row| PublishedTable {
            schema: row.get(0),
            table: row.get(1),
            oid: row.get(2),
            row_filter: row.get(3),
            membership: row.get(4),
        };
        Ok(Self {
            name: name.to_owned(),
            oid: row.get(0),
            revision: row.get(1),
            inserts: row.get(2),
            via_root: row.get(3),
            tables: tables.iter().map(table).collect(),
        })
    }

    /// The publication's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether inserts into every configured table are published.
    pub async fn check(&self, catalog: &Catalog, specs: &[TableSpec]) -> Result<(), Failure> {
        if !self.inserts {
            let message = format!("publication {:?} does not publish inserts", self.name);
            return Err(Failure::new("publication-insert", message));
        }
        for spec in specs {
            if self.find(spec).is_none() {
                return Err(self.uncovered(catalog, spec).await?);
            }
        }
        Ok(())
    }

    /// Publication and configured tables, each in its present definition.
    pub fn coverage(&self, specs: &[TableSpec]) -> Coverage {
        let table = |spec: &TableSpec| {
            let found = self.find(spec)?;
            let definition = Fingerprint::of(&format!("{} {:?}", found.oid, found.membership));
            Some((format!("{}.{}", spec.schema, spec.table), definition))
        };
        Coverage {
            publication: Some(Fingerprint::of(&format!("{} {}", self.oid, self.revision))),
            tables: specs.iter().filter_map(table).collect(),
        }
    }

    /// Of what this relay chooses and decides with how many changes a transaction has in the stream.
    /// What the publication covers does not belong here: the server decodes each transaction with
    /// the catalog as it was then (test: scenario `publication-altered-midway`).
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&format!("{:?} protocol 1, messages", self.name))
    }

    fn find(&self, spec: &TableSpec) -> Option<&PublishedTable> {
        self.tables
            .iter()
            .find(|t| t.schema == spec.schema && t.table == spec.table)
    }

    async fn uncovered(&self, catalog: &Catalog, spec: &TableSpec) -> Result<Failure, Failure> {
        let name = format!("{}.{}", spec.schema, spec.table);
        let sql = "SELECT c.relkind::text FROM pg_class c JOIN pg_namespace n \
                   ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
        let rows = catalog.all(sql, &[&spec.schema, &spec.table]).await?;
        let kind: Option<String> = rows.first().map(|row| row.get(0));
        Ok(match kind.as_deref() {
            None => Failure::new("table-missing", format!("table {name} does not exist")),
            Some("p") if !self.via_root => Failure::new(
                "publication-table",
                format!(
                    "{name} is partitioned and publication {:?} names its partitions instead: set publish_via_partition_root",
                    self.name
                ),
            ),
            Some(_) => Failure::new(
                "publication-table",
                format!("table {name} is not in publication {:?}", self.name),
            ),
        })
    }
}
