//! The outbox tables, and the publication of them.

use delivery::Halt;
use envelope::{RowMapper, TableId, TableSpec, TopicPolicy};
use pgoutput::{Column, Relation};

use crate::cli::database::{all, quote};
use crate::cli::doctor::report::Check;
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::feed;
use crate::source::catalog::Catalog;
use crate::source::publication::PublicationFacts;

const TABLE: &str = "SELECT c.oid, c.relkind::text FROM pg_class c \
     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";

/// The columns that the stream shows: generated ones are left out, and from 15 on a publication may
/// have a list of them.
const COLUMNS: &str = "SELECT a.attname::text, a.atttypid, a.atttypmod FROM pg_attribute a \
     WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
       AND NOT EXISTS (SELECT 1 FROM pg_publication_tables t \
         WHERE t.pubname = $2 AND t.schemaname = $3 AND t.tablename = $4 \
           AND jsonb_typeof(to_jsonb(t)->'attnames') = 'array' \
           AND NOT to_jsonb(t)->'attnames' ? a.attname::text) \
     ORDER BY a.attnum";

const OPERATIONS: &str = "SELECT puballtables, concat_ws(', ', \
       CASE WHEN pubupdate THEN 'updates' END, CASE WHEN pubdelete THEN 'deletes' END, \
       CASE WHEN pubtruncate THEN 'truncations' END) FROM pg_publication WHERE pubname = $1";

const PUBLISHED: &str = "SELECT schemaname::text, tablename::text, to_jsonb(t)->>'rowfilter' \
     FROM pg_publication_tables t WHERE pubname = $1 ORDER BY 1, 2";

/// Checks each table, then the publication.
pub(super) async fn check(catalog: &Catalog, pipeline: &Pipeline) -> Vec<Check> {
    let mut checks = Vec::new();
    for spec in &pipeline.tables {
        checks.push(match check_table(catalog, pipeline, spec).await {
            Ok(detail) => Check::ok("table", detail),
            Err(failure) => Check::fail("table", failure),
        });
    }
    match check_publication(catalog, pipeline).await {
        Ok(found) => checks.extend(found),
        Err(failure) => checks.push(Check::fail("publication", failure)),
    }
    checks
}

/// Events flow without schema `outboxd`, but nothing can be asked of the relay.
pub(super) async fn check_control(catalog: &Catalog, pipeline: &Pipeline) -> Check {
    let name = "control";
    let checked = async {
        feed::require(catalog, "what operators ask of the relay").await?;
        feed::require_published(catalog, &pipeline.postgres.publication).await
    };
    match checked.await {
        Ok(()) => Check::ok(name, "requests of operators reach the relay"),
        Err(failure) => Check::fail(name, failure).softened(),
    }
}

async fn check_table(
    catalog: &Catalog,
    pipeline: &Pipeline,
    spec: &TableSpec,
) -> Result<String, Failure> {
    let name = format!("{}.{}", spec.schema, spec.table);
    let rows = all(catalog, TABLE, &[&spec.schema, &spec.table]).await?;
    let Some(row) = rows.first() else {
        let message = format!("table {name} does not exist");
        return Err(Failure::new("table-missing", message));
    };
    let (table, kind): (u32, String) = (row.get(0), row.get(1));
    if !matches!(kind.as_str(), "r" | "p") {
        let message = format!("{name} is not a table, so it has no inserts of its own in the WAL");
        return Err(Failure::new("table-missing", message));
    }
    let publication = &pipeline.postgres.publication;
    let columns = all(
        catalog,
        COLUMNS,
        &[&table, publication, &spec.schema, &spec.table],
    )
    .await?;
    let relation = Relation {
        oid: table,
        namespace: spec.schema.clone(),
        name: spec.table.clone(),
        replica_identity: b'd',
        columns: columns.iter().map(column).collect(),
    };
    compile(spec, &pipeline.topics, &relation)?;
    Ok(format!("{name} exists and its mapping fits"))
}

fn column(row: &tokio_postgres::Row) -> Column {
    Column {
        flags: 0,
        name: row.get(0),
        type_oid: row.get(1),
        type_modifier: row.get(2),
    }
}

/// What the stream will do with the first row.
fn compile(spec: &TableSpec, policy: &TopicPolicy, relation: &Relation) -> Result<(), Failure> {
    RowMapper::compile(spec, TableId(0), policy, relation)
        .map(drop)
        .map_err(|e| Failure::from(Halt::from(e)))
}

async fn check_publication(catalog: &Catalog, pipeline: &Pipeline) -> Result<Vec<Check>, Failure> {
    let name = &pipeline.postgres.publication;
    let facts = PublicationFacts::read(catalog, name).await?;
    facts.check(catalog, &pipeline.tables).await?;
    let covered = match pipeline.tables.len() {
        1 => "the table".to_owned(),
        several => format!("all {several} tables"),
    };
    let detail = format!("{name} publishes the inserts of {covered}");
    let mut checks = vec![Check::ok("publication", detail)];
    let operations = all(catalog, OPERATIONS, &[name]).await?;
    let published = all(catalog, PUBLISHED, &[name]).await?;
    let published: Vec<_> = published
        .iter()
        .map(|row| Published {
            schema: row.get(0),
            table: row.get(1),
            row_filter: row.get(2),
        })
        .collect();
    if let Some(row) = operations.first() {
        let (all_tables, others): (bool, String) = (row.get(0), row.get(1));
        checks.extend(wider_operations(name, &others));
        checks.extend(wider_tables(name, all_tables, &published, &pipeline.tables));
    }
    checks.extend(filtered(name, &published, &pipeline.tables));
    Ok(checks)
}

/// A table of the publication.
#[derive(Debug, Clone, Default)]
struct Published {
    schema: String,
    table: String,
    row_filter: Option<String>,
}

impl Published {
    fn is_one_of(&self, specs: &[TableSpec]) -> bool {
        let is_it = |s: &TableSpec| s.schema == self.schema && s.table == self.table;
        specs.iter().any(is_it)
    }

    fn shown(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

fn wider_operations(name: &str, others: &str) -> Option<Check> {
    (!others.is_empty()).then(|| {
        Check::warn(
            "publication-operations",
            format!("{name} also publishes {others}, which are sent and thrown away"),
            format!(
                "Run: ALTER PUBLICATION {} SET (publish = 'insert'); unless somebody else reads it.",
                quote(name)
            ),
        )
    })
}

fn wider_tables(
    name: &str,
    all_tables: bool,
    published: &[Published],
    specs: &[TableSpec],
) -> Option<Check> {
    let others: Vec<_> = published
        .iter()
        .filter(|t| !t.is_one_of(specs) && t.shown() != "outboxd.control")
        .map(Published::shown)
        .collect();
    let detail = match (all_tables, others.as_slice()) {
        (true, _) => format!("{name} publishes all tables of the database"),
        (false, []) => return None,
        (false, [table]) => format!("{name} also publishes {table}"),
        (false, [table, rest @ ..]) => {
            format!("{name} also publishes {table} and {} more", rest.len())
        }
    };
    Some(Check::warn(
        "publication-tables",
        format!("{detail}; what is not configured is sent and thrown away"),
        "Give outboxd a publication of its own (postgres.publication), with the outbox tables only.",
    ))
}

fn filtered(name: &str, published: &[Published], specs: &[TableSpec]) -> Option<Check> {
    let table = published
        .iter()
        .find(|t| t.row_filter.is_some() && t.is_one_of(specs))?;
    let filter = table.row_filter.as_deref().unwrap_or_default();
    Some(Check::warn(
        "publication-filter",
        format!(
            "{name} publishes only rows of {} WHERE {filter}; no other row becomes an event",
            table.shown()
        ),
        "Remove the row filter, unless that is meant.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::Verdict;

    fn published(table: &str, row_filter: Option<&str>) -> Published {
        Published {
            schema: "public".into(),
            table: table.into(),
            row_filter: row_filter.map(str::to_owned),
        }
    }

    #[test]
    fn a_publication_of_its_own_passes() {
        let (tables, specs) = ([published("outbox", None)], [TableSpec::default()]);
        assert_eq!(wider_operations("p", ""), None);
        assert_eq!(wider_tables("p", false, &tables, &specs), None);
        assert_eq!(filtered("p", &tables, &specs), None);
    }

    #[test]
    fn a_publication_that_is_too_wide_or_too_narrow_is_a_warning() {
        let specs = [TableSpec::default()];
        let others = [
            published("outbox", Some("(id > 1)")),
            published("orders", Some("(x)")),
            published("items", None),
        ];
        let checks = [
            (wider_operations("p", "updates"), "updates"),
            (
                wider_tables("p", false, &others, &specs),
                "public.orders and 1 more",
            ),
            (wider_tables("p", true, &others, &specs), "all tables"),
            (
                filtered("p", &others, &specs),
                "public.outbox WHERE (id > 1)",
            ),
        ];
        for (check, part) in checks {
            let check = check.expect(part);
            assert_eq!(check.verdict, Verdict::Warn);
            assert!(check.detail.contains(part), "{check:?}");
        }
    }

    #[test]
    fn a_mapping_that_does_not_fit_is_told_as_run_tells_it() {
        let relation = Relation {
            oid: 1,
            namespace: "public".into(),
            name: "outbox".into(),
            replica_identity: b'd',
            columns: Vec::new(),
        };
        let compiled = compile(&TableSpec::default(), &TopicPolicy::default(), &relation);
        let failure = compiled.expect_err("a table without columns");
        assert_eq!(failure.code.name, "mapping");
        assert!(failure.message.contains("columns.id"), "{failure}");
    }
}
