//! Which rows a feed has, and in which order.

use std::collections::BTreeSet;

use envelope::TableSpec;

use super::shape::Shape;
use super::{Connection, literal, table_name, whole};
use crate::config::{Pipeline, Rows, StateSpec};
use crate::failure::Failure;

/// What is asked of the rows of a table. Everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these ids; any, if there is none.
    pub ids: Vec<String>,
    /// The event's type.
    pub event_type: Option<String>,
    /// The event occurred then or later.
    pub since: Option<String>,
    /// The event occurred before.
    pub until: Option<String>,
    /// The state says that it is not published.
    pub is_pending: bool,
}

impl Filter {
    /// The rows that a backfill is to have; `None` if it is to have none.
    pub fn of_backfill(rows: Rows<'_>) -> Option<Self> {
        let all = Self::default();
        match rows {
            Rows::None => None,
            Rows::All => Some(all),
            Rows::Pending => Some(Self {
                is_pending: true,
                ..all
            }),
            Rows::Since(time) => Some(Self {
                since: Some(time.to_owned()),
                ..all
            }),
        }
    }

    /// As a condition on row `t`.
    pub fn condition(&self, shape: &Shape, spec: &TableSpec) -> Result<String, Failure> {
        let mut parts = Vec::new();
        if !self.ids.is_empty() {
            let ids: Vec<_> = self.ids.iter().map(|id| literal(id)).collect();
            let (id, kind) = (&shape.id, &shape.id_type);
            // The ids take the column's type, and not the other way round: so its index is used.
            let ids = ids.join(", ");
            parts.push(format!("t.{id} = ANY (ARRAY[{ids}]::text[]::{kind}[])"));
        }
        if let Some(event_type) = &self.event_type {
            let column = &shape.event_type;
            parts.push(format!("t.{column}::text = {}", literal(event_type)));
        }
        if let Some(since) = &self.since {
            let column = shape.require_time(spec)?;
            parts.push(format!("t.{column} >= {}::timestamptz", literal(since)));
        }
        if let Some(until) = &self.until {
            let column = shape.require_time(spec)?;
            parts.push(format!("t.{column} < {}::timestamptz", literal(until)));
        }
        if self.is_pending {
            let column = shape.require_state(spec)?;
            parts.push(format!("t.{column}::text = 'PENDING'"));
        }
        match parts.is_empty() {
            true => Ok("true".to_owned()),
            false => Ok(parts.join(" AND ")),
        }
    }
}

/// A feed while its rows are being written down, in the transaction of the connection.
pub struct Gathering<'a> {
    connection: &'a Connection,
    /// Slot of the relay that is to publish them.
    slot: String,
    request: &'a str,
    rows: u64,
}

impl<'a> Gathering<'a> {
    /// Without rows yet.
    pub fn new(pipeline: &Pipeline, connection: &'a Connection, request: &'a str) -> Self {
        Self {
            connection,
            slot: pipeline.slot_name(),
            request,
            rows: 0,
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds the rows of a table that the filter lets through; how many there are.
    pub async fn add(
        &mut self,
        (spec, state): (&TableSpec, &StateSpec),
        filter: &Filter,
        order_by: Option<&str>,
    ) -> Result<u64, Failure> {
        let shape = Shape::read(self.connection, spec, state).await?;
        let order = shape.order(order_by, spec)?;
        let condition = filter.condition(&shape, spec)?;
        let (table, id) = (&shape.table, &shape.id);
        let sql = format!(
            "INSERT INTO outboxd.feed_rows (request_id, slot, ordinal, table_name, row_id) \
             SELECT $1::text::uuid, $4, $2 + row_number() OVER (ORDER BY {order}), $3, t.{id}::text \
             FROM {table} t WHERE {condition}"
        );
        let before = i64::try_from(self.rows).unwrap_or(i64::MAX);
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&self.request, &before, &table_name(spec), &self.slot];
        let added = self.connection.change(&sql, &params).await?;
        self.rows += added;
        Ok(added)
    }

    /// Adds rows of a table by their ids.
    pub async fn add_ids(&mut self, table: &str, ids: &[String]) -> Result<(), Failure> {
        let sql = "INSERT INTO outboxd.feed_rows (request_id, slot, ordinal, table_name, row_id) \
                   SELECT $1::text::uuid, $5, $2 + n, $3, id \
                   FROM unnest($4::text[]) WITH ORDINALITY given(id, n)";
        let before = i64::try_from(self.rows).unwrap_or(i64::MAX);
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&self.request, &before, &table, &ids, &self.slot];
        self.rows += self.connection.change(sql, &params).await?;
        Ok(())
    }

    /// Adds what is left of another feed behind a row of it.
    pub async fn add_rest(&mut self, request: &str, done: u64) -> Result<u64, Failure> {
        let sql = "INSERT INTO outboxd.feed_rows (request_id, slot, ordinal, table_name, row_id) \
                   SELECT $1::text::uuid, $5, $2 + row_number() OVER (ORDER BY ordinal), \
                     table_name, row_id \
                   FROM outboxd.feed_rows WHERE request_id = $3::text::uuid AND ordinal > $4";
        let before = i64::try_from(self.rows).unwrap_or(i64::MAX);
        let done = i64::try_from(done).unwrap_or(i64::MAX);
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&self.request, &before, &request, &done, &self.slot];
        let added = self.connection.change(sql, &params).await?;
        self.rows += added;
        Ok(added)
    }
}

/// A backfill that was written down.
#[derive(Debug, Default)]
pub struct Backfill {
    /// How many rows it has.
    pub rows: u64,
    /// The tables of which it has every row.
    pub whole_tables: BTreeSet<String>,
}

/// Writes down the rows of the configured backfill, as a new slot's snapshot has them: table after
/// table, each in the declared order.
pub async fn backfill(
    pipeline: &Pipeline,
    snapshot: &str,
    request: &str,
) -> Result<Backfill, Failure> {
    let Some(filter) = Filter::of_backfill(pipeline.backfill.rows()) else {
        return Ok(Backfill::default());
    };
    let connection = Connection::in_snapshot(&pipeline.postgres, snapshot).await?;
    let mut gathering = Gathering::new(pipeline, &connection, request);
    for (_, spec, state) in pipeline.outboxes() {
        let order_by = pipeline.backfill.order_by.as_deref();
        gathering.add((spec, state), &filter, order_by).await?;
    }
    let mut backfill = Backfill {
        rows: gathering.rows(),
        ..Backfill::default()
    };
    for (_, spec, state) in pipeline.outboxes() {
        let shape = Shape::read(&connection, spec, state).await?;
        let condition = filter.condition(&shape, spec)?;
        if whole::leaves_out_none(&connection, pipeline, spec, &condition).await? {
            backfill.whole_tables.insert(table_name(spec));
        }
    }
    connection.execute("COMMIT").await?;
    Ok(backfill)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shape() -> Shape {
        Shape {
            relation: pgoutput::Relation {
                oid: 1,
                namespace: "public".into(),
                name: "outbox".into(),
                replica_identity: b'd',
                columns: Vec::new(),
            },
            table: "\"public\".\"outbox\"".into(),
            id: "\"id\"".into(),
            id_type: "uuid".into(),
            event_type: "\"event_type\"".into(),
            occurred_at: Some("\"created_at\"".into()),
            seq: None,
            state: None,
        }
    }

    fn condition(filter: &Filter, shape: &Shape) -> Result<String, &'static str> {
        let condition = filter.condition(shape, &TableSpec::default());
        condition.map_err(|failure| failure.code.name)
    }

    #[test]
    fn a_filter_asks_for_everything_that_is_given() {
        let filter = Filter {
            ids: vec!["a".into(), "o'b".into()],
            event_type: Some("x.y".into()),
            since: Some("2026-01-01".into()),
            until: Some("2026-02-01".into()),
            is_pending: false,
        };
        assert_eq!(
            condition(&filter, &shape()).unwrap(),
            "t.\"id\" = ANY (ARRAY['a', 'o''b']::text[]::uuid[]) \
             AND t.\"event_type\"::text = 'x.y' \
             AND t.\"created_at\" >= '2026-01-01'::timestamptz \
             AND t.\"created_at\" < '2026-02-01'::timestamptz"
        );
        assert_eq!(condition(&Filter::default(), &shape()).unwrap(), "true");
    }

    #[test]
    fn a_filter_that_the_table_can_not_tell_is_refused() {
        let pending = Filter::of_backfill(Rows::Pending).unwrap();
        assert_eq!(condition(&pending, &shape()), Err("mapping"));
        let with_state = Shape {
            state: Some("\"state\"".into()),
            ..shape()
        };
        assert_eq!(
            condition(&pending, &with_state).unwrap(),
            "t.\"state\"::text = 'PENDING'"
        );
        let timeless = Shape {
            occurred_at: None,
            ..shape()
        };
        let since = Filter::of_backfill(Rows::Since("2026-01-01")).unwrap();
        assert_eq!(condition(&since, &timeless), Err("mapping"));
        assert_eq!(Filter::of_backfill(Rows::None), None);
    }
}
