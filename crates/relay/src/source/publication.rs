//! The publication: whether it covers the configured tables, and whether it stays the same.

use delivery::Fingerprint;
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
}

/// The publication as the catalog shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicationFacts {
    name: String,
    oid: u32,
    inserts: bool,
    via_root: bool,
    tables: Vec<PublishedTable>,
}

const PUBLICATION: &str =
    "SELECT oid, pubinsert, pubviaroot FROM pg_publication WHERE pubname = $1";
const TABLES: &str = "SELECT t.schemaname::text, t.tablename::text, c.oid, to_jsonb(t)->>'rowfilter' \
     FROM pg_publication_tables t \
     JOIN pg_namespace n ON n.nspname = t.schemaname \
     JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
     WHERE t.pubname = $1 ORDER BY c.oid";

impl PublicationFacts {
    /// Reads the publication; a missing one is a failure.
    pub async fn read(catalog: &Catalog, name: &str) -> Result<Self, Failure> {
        let rows = catalog.all(PUBLICATION, &[&name]).await?;
        let Some(row) = rows.first() else {
            let message = format!("publication {name:?} does not exist");
            return Err(Failure::new("publication-missing", message));
        };
        let tables = catalog.all(TABLES, &[&name]).await?;
        let table = |row: &tokio_postgres::Row| PublishedTable {
            schema: row.get(0),
            table: row.get(1),
            oid: row.get(2),
            row_filter: row.get(3),
        };
        Ok(Self {
            name: name.to_owned(),
            oid: row.get(0),
            inserts: row.get(1),
            via_root: row.get(2),
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

    /// Whether it is still the same publication of the same tables.
    pub fn check_unchanged(&self, now: &Self, specs: &[TableSpec]) -> Result<(), Failure> {
        let same_tables = specs.iter().all(|spec| self.find(spec) == now.find(spec));
        if self.oid == now.oid && self.via_root == now.via_root && same_tables {
            return Ok(());
        }
        let message = format!(
            "publication {:?} or a table in it has been replaced",
            self.name
        );
        Err(Failure::new("publication-changed", message))
    }

    /// Of all that decides how many changes a transaction has in the stream.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&format!("{self:?} protocol 1, messages"))
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
