//! Whether states can be written back, and at which cost; whether old rows can be removed.

use envelope::TableSpec;

use crate::cli::database::all;
use crate::cli::doctor::report::Check;
use crate::config::{Pipeline, StateSpec, WriteBack};
use crate::failure::Failure;
use crate::source::catalog::Catalog;
use crate::writeback::table::load;

/// An index that has to do with a column depends on it, be it by a key, an expression or a condition.
/// Of a partitioned table the partitions count.
const COST: &str = "SELECT \
       EXISTS (SELECT FROM pg_depend d JOIN pg_class x ON x.oid = d.objid AND x.relkind IN ('i', 'I') \
         JOIN pg_attribute s ON s.attrelid = d.refobjid AND s.attnum = d.refobjsubid \
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = d.classid \
           AND d.refobjid IN (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)) \
           AND s.attname = $3), \
       EXISTS (SELECT FROM pg_class l WHERE l.relkind = 'r' \
         AND l.oid IN (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)) \
         AND NOT EXISTS (SELECT FROM pg_options_to_table(l.reloptions) \
           WHERE option_name = 'fillfactor' AND option_value::int < 100)), \
       EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid \
           AND a.attnum = i.indkey[0] AND a.attname = $4 \
         WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL \
           AND (c.relkind = 'p' OR i.indisunique AND i.indnkeyatts = 1)), \
       has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'DELETE') \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')";

/// What updating or removing the rows of a table would take.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// The state column has to do with an index.
    indexed: bool,
    /// Pages are filled to the brim.
    full: bool,
    /// Rows are found by their id.
    found: bool,
    /// The role may remove rows.
    prunes: bool,
}

/// Checks each table.
pub(super) async fn check(catalog: &Catalog, pipeline: &Pipeline) -> Vec<Check> {
    let mut checks = Vec::new();
    for (id, spec, state) in pipeline.outboxes() {
        let is_written_back = pipeline.written_back().any(|(written, ..)| written == id);
        let cost = match look(catalog, spec, state).await {
            Ok(Some(cost)) => cost,
            // That it does not exist is said elsewhere.
            Ok(None) => continue,
            Err(failure) => {
                checks.push(Check::fail("write-back", failure));
                continue;
            }
        };
        let table = format!("{}.{}", spec.schema, spec.table);
        if is_written_back {
            checks.push(match load(catalog.client(), spec, state).await {
                Ok(_) => Check::ok(
                    "write-back",
                    format!("{table} can be updated: {}", state.mode),
                ),
                Err(failure) => Check::fail("write-back", failure),
            });
            checks.extend(costly(&table, spec, state, cost));
        }
        if pipeline.retention.period.is_some() {
            checks.extend(unpruned(&table, state, cost));
        }
    }
    checks
}

/// `None` without the table.
async fn look(
    catalog: &Catalog,
    spec: &TableSpec,
    state: &StateSpec,
) -> Result<Option<Cost>, Failure> {
    let rows = all(
        catalog,
        COST,
        &[&spec.schema, &spec.table, &state.state, &spec.columns.id],
    )
    .await?;
    Ok(rows.first().map(|row| Cost {
        indexed: row.get(0),
        full: row.get(1),
        found: row.get(2),
        prunes: row.get(3),
    }))
}

fn costly(table: &str, spec: &TableSpec, state: &StateSpec, cost: Cost) -> Vec<Check> {
    let warn = |detail: String, fix: String| Check::warn("write-back-cost", detail, fix);
    let mut checks = Vec::new();
    if !cost.found {
        let id = &spec.columns.id;
        checks.push(warn(
            format!("{table} has no unique index on {id}, so each batch of states reads the whole table"),
            format!("Make {id} the primary key, or create a unique index on it; where the table is partitioned, any index that begins with it."),
        ));
    }
    if state.mode == WriteBack::All && cost.indexed {
        checks.push(warn(
            format!(
                "an index of {table} has to do with {}, so no update stays on its page (HOT)",
                state.state
            ),
            "Drop it: the relay needs none. Or set write_back = \"failures\" for the table.".into(),
        ));
    }
    if state.mode == WriteBack::All && cost.full {
        checks.push(warn(
            format!("the pages of {table} are filled to 100 %, so updates find no room on them (HOT)"),
            format!("Run: ALTER TABLE {table} SET (fillfactor = 50); where it is partitioned, for each partition. It holds for new pages."),
        ));
    }
    checks
}

fn unpruned(table: &str, state: &StateSpec, cost: Cost) -> Vec<Check> {
    let name = "retention";
    let mut checks = Vec::new();
    if !cost.prunes {
        checks.push(Check::fail(
            name,
            Failure::new(
                "permission-denied",
                format!("retention takes SELECT and DELETE on {table}"),
            ),
        ));
    }
    if state.mode == WriteBack::Off {
        checks.push(Check::warn(
            name,
            format!("nothing is written back to {table}, so rows of dead letters are removed like others, and none at all of a table that held rows when the slot was made"),
            "Set write_back = \"failures\" or \"all\" for the table, unless that is meant.",
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(checks: &[Check]) -> Vec<&'static str> {
        checks.iter().map(|check| check.name).collect()
    }

    #[test]
    fn what_costs_is_a_warning() {
        let cheap = Cost {
            found: true,
            prunes: true,
            ..Cost::default()
        };
        let of = |mode, cost| {
            let state = StateSpec {
                mode,
                ..StateSpec::default()
            };
            let checks = costly("t", &TableSpec::default(), &state, cost);
            (checks.len(), names(&unpruned("t", &state, cost)).len())
        };
        assert_eq!(of(WriteBack::All, cheap), (0, 0));
        assert_eq!(of(WriteBack::Off, cheap), (0, 1));
        let dear = Cost {
            indexed: true,
            full: true,
            ..Cost::default()
        };
        assert_eq!(of(WriteBack::All, dear), (3, 1));
        // Failures are few.
        assert_eq!(of(WriteBack::Failures, dear), (1, 1));
    }
}
