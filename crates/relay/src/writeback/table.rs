//! What write-back needs of a table, and whether it is there.

use envelope::{OptionalColumn, TableSpec};
use tokio_postgres::Client;

use crate::config::{Pipeline, StateSpec};
use crate::failure::Failure;
use crate::source::catalog::Catalog;
use crate::source::link::Link;
use crate::sql::{qualified, quote};

use super::error::classify;
use super::session::PURPOSE;

/// A table whose rows can be updated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outbox {
    /// Schema and name, quoted.
    pub name: String,
    /// The id column, quoted.
    pub id: String,
    /// Its type, as in a cast.
    pub id_type: String,
    /// The state column, quoted.
    pub state: String,
    /// The column of attempts, quoted.
    pub attempts: Option<String>,
    /// The column of the last error, quoted.
    pub last_error: Option<String>,
}

/// A table as the catalog has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableFacts {
    /// The role may look into the schema.
    pub uses_schema: bool,
    /// Row level security applies to the role.
    pub hides_rows: bool,
    /// Those of the columns asked for that exist.
    pub columns: Vec<ColumnFacts>,
}

/// A column as the catalog has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ColumnFacts {
    pub name: String,
    pub type_name: String,
    pub selects: bool,
    pub updates: bool,
    /// It decides which partition a row is in, or it is computed.
    pub is_fixed: bool,
}

const TABLE: &str = "SELECT c.oid, has_schema_privilege(n.oid, 'USAGE'), row_security_active(c.oid) \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')";

/// Columns of a partition key depend on their table (`StorePartitionKey` in `heap.c`). The type is
/// asked for with the modifier -1, without which `bpchar` would be called `character`, which is
/// `character(1)`.
const COLUMNS: &str = "SELECT a.attname::text, format_type(a.atttypid, -1), \
       has_column_privilege(a.attrelid, a.attnum, 'SELECT'), \
       has_column_privilege(a.attrelid, a.attnum, 'UPDATE'), \
       a.attgenerated <> '' OR EXISTS (SELECT FROM pg_partition_tree(a.attrelid) t \
         JOIN pg_partitioned_table p ON p.partrelid = t.relid \
         JOIN pg_attribute k ON k.attrelid = p.partrelid AND k.attname = a.attname \
         JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = k.attrelid \
           AND d.objsubid = k.attnum AND d.refclassid = d.classid \
           AND d.refobjid = k.attrelid AND d.refobjsubid = 0 AND d.deptype = 'i') \
     FROM pg_attribute a \
     WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY ($2)";

/// Looks a table up; `None` if there is none.
pub(crate) async fn read(
    client: &Client,
    spec: &TableSpec,
    state: &StateSpec,
) -> Result<Option<TableFacts>, tokio_postgres::Error> {
    let rows = client.query(TABLE, &[&spec.schema, &spec.table]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let (table, uses_schema, hides_rows): (u32, bool, bool) = (row.get(0), row.get(1), row.get(2));
    let mut names: Vec<&str> = vec![&spec.columns.id, &state.state];
    names.extend(
        [&state.attempts, &state.last_error]
            .into_iter()
            .filter_map(named),
    );
    let columns = client.query(COLUMNS, &[&table, &names]).await?;
    let columns = columns.iter().map(|row| ColumnFacts {
        name: row.get(0),
        type_name: row.get(1),
        selects: row.get(2),
        updates: row.get(3),
        is_fixed: row.get(4),
    });
    Ok(Some(TableFacts {
        uses_schema,
        hides_rows,
        columns: columns.collect(),
    }))
}

fn named(column: &OptionalColumn) -> Option<&str> {
    match column {
        OptionalColumn::Unmapped => None,
        OptionalColumn::IfPresent(name) | OptionalColumn::Mapped(name) => Some(name),
    }
}

/// The table to update, or what is in the way.
pub(crate) fn outbox(
    spec: &TableSpec,
    state: &StateSpec,
    facts: Option<&TableFacts>,
) -> Result<Outbox, Failure> {
    let table = format!("{}.{}", spec.schema, spec.table);
    let Some(facts) = facts else {
        let message = format!("table {table} does not exist");
        return Err(Failure::new("table-missing", message));
    };
    let look = Look { table, facts };
    look.require_rights(spec)?;
    let id = look.readable("id", &spec.columns.id)?;
    look.readable("state", &state.state)?;
    Ok(Outbox {
        name: qualified(&spec.schema, &spec.table),
        id: quote(&id.name),
        id_type: id.type_name.clone(),
        state: look.writable("state", &state.state)?,
        attempts: look.optional("attempts", &state.attempts)?,
        last_error: look.optional("last_error", &state.last_error)?,
    })
}

struct Look<'a> {
    table: String,
    facts: &'a TableFacts,
}

impl<'a> Look<'a> {
    fn require_rights(&self, spec: &TableSpec) -> Result<(), Failure> {
        if !self.facts.uses_schema {
            return Err(self.denied(&format!("takes USAGE on schema {}", spec.schema)));
        }
        if self.facts.hides_rows {
            let what = "could not see rows that row level security hides: give the role BYPASSRLS";
            return Err(self.denied(what));
        }
        Ok(())
    }

    fn denied(&self, what: &str) -> Failure {
        let message = format!("write-back to {} {what}", self.table);
        Failure::new("permission-denied", message)
    }

    fn unfit(&self, what: &str) -> Failure {
        let message = format!("write-back to {}: {what}", self.table);
        Failure::new("write-back-columns", message)
    }

    fn find(&self, name: &str) -> Option<&'a ColumnFacts> {
        self.facts.columns.iter().find(|column| column.name == name)
    }

    fn required(&self, key: &str, name: &str) -> Result<&'a ColumnFacts, Failure> {
        let missing = || self.unfit(&format!("there is no column {name:?} (columns.{key})"));
        self.find(name).ok_or_else(missing)
    }

    fn readable(&self, key: &str, name: &str) -> Result<&'a ColumnFacts, Failure> {
        let column = self.required(key, name)?;
        match column.selects {
            true => Ok(column),
            false => Err(self.denied(&format!("takes SELECT ({name})"))),
        }
    }

    fn writable(&self, key: &str, name: &str) -> Result<String, Failure> {
        let column = self.required(key, name)?;
        if column.is_fixed {
            let what = format!("column {name:?} is generated or part of a partition key");
            return Err(self.unfit(&what));
        }
        match column.updates {
            true => Ok(quote(name)),
            false => Err(self.denied(&format!("takes UPDATE ({name})"))),
        }
    }

    fn optional(&self, key: &str, column: &OptionalColumn) -> Result<Option<String>, Failure> {
        match column {
            OptionalColumn::Unmapped => Ok(None),
            OptionalColumn::IfPresent(name) if self.find(name).is_none() => Ok(None),
            OptionalColumn::IfPresent(name) | OptionalColumn::Mapped(name) => {
                self.writable(key, name).map(Some)
            }
        }
    }
}

/// Looks a table up for write-back.
pub(crate) async fn load(
    client: &Client,
    spec: &TableSpec,
    state: &StateSpec,
) -> Result<Outbox, Failure> {
    let facts = read(client, spec, state).await;
    let facts = facts.map_err(|e| classify("looking at the columns of the state", &e))?;
    outbox(spec, state, facts.as_ref())
}

/// Refuses a pipeline whose tables can't be written back to, by the role that is to do it. Part of the start
/// of a session.
pub async fn check(catalog: &Catalog, pipeline: &Pipeline) -> Result<(), Failure> {
    match pipeline.postgres.write_back {
        None => require(catalog.client(), pipeline).await,
        Some(_) => {
            let postgres = pipeline.postgres.for_write_back();
            // A role that can't connect holds up its rows only: the worker tells of it, and tries again.
            match Link::connect(&postgres, catalog.host(), PURPOSE).await {
                Ok(link) => require(&link.client, pipeline).await,
                Err(_) => Ok(()),
            }
        }
    }
}

async fn require(client: &Client, pipeline: &Pipeline) -> Result<(), Failure> {
    for (_, spec, state) in pipeline.written_back() {
        load(client, spec, state).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn column(name: &str) -> ColumnFacts {
        ColumnFacts {
            name: name.into(),
            type_name: "text".into(),
            selects: true,
            updates: true,
            is_fixed: false,
        }
    }

    fn facts(names: &[&str]) -> TableFacts {
        TableFacts {
            uses_schema: true,
            hides_rows: false,
            columns: names.iter().map(|name| column(name)).collect(),
        }
    }

    fn judge(facts: &TableFacts, state: &StateSpec) -> Result<Outbox, Failure> {
        outbox(&TableSpec::default(), state, Some(facts))
    }

    #[test]
    fn optional_columns_are_used_where_they_exist() {
        let state = StateSpec::default();
        let all = judge(&facts(&["id", "state", "attempts", "last_error"]), &state).unwrap();
        assert_eq!(all.attempts.as_deref(), Some("\"attempts\""));
        assert_eq!(all.name, "\"public\".\"outbox\"");
        let few = judge(&facts(&["id", "state"]), &state).unwrap();
        assert_eq!((few.attempts, few.last_error), (None, None));
    }

    #[test]
    fn what_is_in_the_way_is_named_with_its_code() {
        let complete = || facts(&["id", "state", "attempts", "last_error"]);
        let check = |change: &dyn Fn(&mut TableFacts, &mut StateSpec), code: &str, part: &str| {
            let (mut facts, mut state) = (complete(), StateSpec::default());
            change(&mut facts, &mut state);
            let failure = judge(&facts, &state).unwrap_err();
            assert_eq!(failure.code.name, code, "{failure}");
            assert!(failure.message.contains(part), "{failure}");
        };
        check(&|f, _| f.uses_schema = false, "permission-denied", "USAGE");
        check(
            &|f, _| f.hides_rows = true,
            "permission-denied",
            "BYPASSRLS",
        );
        check(
            &|f, _| f.columns[0].selects = false,
            "permission-denied",
            "SELECT (id)",
        );
        check(
            &|f, _| f.columns[1].updates = false,
            "permission-denied",
            "UPDATE (state)",
        );
        check(
            &|f, _| f.columns[2].updates = false,
            "permission-denied",
            "UPDATE (attempts)",
        );
        check(
            &|f, _| f.columns[1].is_fixed = true,
            "write-back-columns",
            "partition key",
        );
        check(
            &|f, _| drop(f.columns.remove(1)),
            "write-back-columns",
            "columns.state",
        );
        check(
            &|f, _| drop(f.columns.remove(0)),
            "write-back-columns",
            "columns.id",
        );
        check(
            &|_, s| s.attempts = OptionalColumn::Mapped("tries".into()),
            "write-back-columns",
            "\"tries\" (columns.attempts)",
        );
        let none = outbox(&TableSpec::default(), &StateSpec::default(), None);
        assert_eq!(none.unwrap_err().code.name, "table-missing");
    }
}
