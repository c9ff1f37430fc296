//! A table as the catalog describes it.

use envelope::{OptionalColumn, TableSpec};
use pgoutput::{Column, Relation};

use super::Connection;
use crate::config::StateSpec;
use crate::failure::Failure;
use crate::sql::{qualified, quote};

const COLUMNS: &str = "SELECT c.oid, c.relreplident::text, a.attname::text, a.atttypid, a.atttypmod, \
       format_type(a.atttypid, -1) \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
     WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p') ORDER BY a.attnum";

/// A table: what its rows look like, and its mapped columns, quoted.
#[derive(Debug, Clone)]
pub struct Shape {
    /// As the stream would describe it.
    pub relation: Relation,
    /// Schema and name, quoted.
    pub table: String,
    /// Column of the event's id.
    pub id: String,
    /// Type of the id, such as `uuid`.
    pub id_type: String,
    /// Column of the event's type.
    pub event_type: String,
    /// Column of the time of the event.
    pub occurred_at: Option<String>,
    /// Column of the insertion number.
    pub seq: Option<String>,
    /// Column that says whether a row is published.
    pub state: Option<String>,
}

impl Shape {
    /// Reads the catalog.
    pub async fn read(
        connection: &Connection,
        spec: &TableSpec,
        state: &StateSpec,
    ) -> Result<Self, Failure> {
        let rows = connection
            .rows(COLUMNS, &[&spec.schema, &spec.table])
            .await?;
        let name = super::table_name(spec);
        let Some(first) = rows.first() else {
            let message = format!("table {name} does not exist");
            return Err(Failure::new("table-missing", message));
        };
        let column = |row: &tokio_postgres::Row| Column {
            flags: 0,
            name: row.get(2),
            type_oid: row.get(3),
            type_modifier: row.get(4),
        };
        let identity: String = first.get(1);
        let relation = Relation {
            oid: first.get(0),
            namespace: spec.schema.clone(),
            name: spec.table.clone(),
            replica_identity: identity.bytes().next().unwrap_or(b'd'),
            columns: rows.iter().map(column).collect(),
        };
        let types: Vec<String> = rows.iter().map(|row| row.get(5)).collect();
        Self::fit(spec, &state.state, relation, &types)
    }

    /// Finds the mapped columns; `types` are those of the columns.
    fn fit(
        spec: &TableSpec,
        state: &str,
        relation: Relation,
        types: &[String],
    ) -> Result<Self, Failure> {
        let columns = &spec.columns;
        let named = |name: &str| {
            let index = relation.column_index(name);
            index.ok_or_else(|| missing(spec, name))
        };
        let optional = |column: &OptionalColumn| match column {
            OptionalColumn::Unmapped => Ok(None),
            OptionalColumn::IfPresent(name) => Ok(relation.column_index(name).map(|_| quote(name))),
            OptionalColumn::Mapped(name) => named(name).map(|_| Some(quote(name))),
        };
        let id = named(&columns.id)?;
        named(&columns.event_type)?;
        Ok(Self {
            table: qualified(&spec.schema, &spec.table),
            id: quote(&columns.id),
            id_type: types.get(id).cloned().unwrap_or_default(),
            event_type: quote(&columns.event_type),
            occurred_at: optional(&columns.occurred_at)?,
            seq: optional(&columns.seq)?,
            state: relation.column_index(state).map(|_| quote(state)),
            relation,
        })
    }

    /// All columns of row `t`, each behind a comma.
    pub fn columns(&self) -> String {
        let columns = self.relation.columns.iter();
        columns
            .map(|column| format!(", t.{}", quote(&column.name)))
            .collect()
    }

    /// The columns by which rows are ordered: the given one, else the insertion number, else the
    /// time of the event; and the id at last.
    pub fn order(&self, given: Option<&str>, spec: &TableSpec) -> Result<String, Failure> {
        let first = match given {
            Some(name) if self.relation.column_index(name).is_none() => {
                return Err(missing(spec, name));
            }
            Some(name) => Some(quote(name)),
            None => self.seq.clone().or_else(|| self.occurred_at.clone()),
        };
        let columns: Vec<_> = first.iter().chain([&self.id]).collect();
        let columns = columns.into_iter().map(|column| format!("t.{column}"));
        Ok(columns.collect::<Vec<_>>().join(", "))
    }

    /// The time column, for what can't do without it.
    pub fn require_time(&self, spec: &TableSpec) -> Result<&str, Failure> {
        self.occurred_at.as_deref().ok_or_else(|| {
            let table = super::table_name(spec);
            let message = format!("{table} has no column of the time of events to choose rows by");
            Failure::new("mapping", message)
        })
    }

    /// The column of the state, for what can't do without it.
    pub fn require_state(&self, spec: &TableSpec) -> Result<&str, Failure> {
        self.state.as_deref().ok_or_else(|| {
            let table = super::table_name(spec);
            let message = format!("{table} has no column of the state to choose rows by");
            Failure::new("mapping", message)
        })
    }
}

fn missing(spec: &TableSpec, column: &str) -> Failure {
    let table = super::table_name(spec);
    Failure::new("mapping", format!("{table} has no column {column:?}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shape(columns: &[&str]) -> Result<Shape, Failure> {
        let column = |name: &&str| Column {
            flags: 0,
            name: (*name).to_owned(),
            type_oid: pgoutput::oid::TEXT,
            type_modifier: -1,
        };
        let relation = Relation {
            oid: 1,
            namespace: "public".into(),
            name: "outbox".into(),
            replica_identity: b'd',
            columns: columns.iter().map(column).collect(),
        };
        let types: Vec<_> = columns
            .iter()
            .map(|name| format!("type of {name}"))
            .collect();
        Shape::fit(&TableSpec::default(), "state", relation, &types)
    }

    #[test]
    fn rows_are_ordered_by_number_else_time_else_id() {
        let order = |columns: &[&str], given| {
            let shape = shape(columns).unwrap();
            shape
                .order(given, &TableSpec::default())
                .map_err(|f| f.code.name)
        };
        let all = ["id", "event_type", "payload", "created_at", "seq"];
        assert_eq!(order(&all, None).unwrap(), "t.\"seq\", t.\"id\"");
        assert_eq!(
            order(&all[..4], None).unwrap(),
            "t.\"created_at\", t.\"id\""
        );
        assert_eq!(order(&all[..3], None).unwrap(), "t.\"id\"");
        assert_eq!(
            order(&all, Some("payload")).unwrap(),
            "t.\"payload\", t.\"id\""
        );
        assert_eq!(order(&all, Some("nothing")), Err("mapping"));
    }

    #[test]
    fn the_type_of_the_id_is_its_own() {
        let shape = shape(&["payload", "id", "event_type"]).unwrap();
        assert_eq!(shape.id_type, "type of id");
        assert_eq!(shape.state, None);
    }

    #[test]
    fn a_table_without_a_mapped_column_is_refused() {
        assert_eq!(shape(&["id"]).unwrap_err().code.name, "mapping");
    }
}
