//! The event's row.

use envelope::{OptionalColumn, Origin, RecordBatch, RowMapper, TableId, TableSpec};
use pgoutput::{CommitLsn, Lsn, PgTimestamp, Position};
use tokio_postgres::SimpleQueryRow;

use super::story::RowStory;
use super::{Payloads, Ways};
use crate::config::{Pipeline, StateSpec};
use crate::failure::{Failure, chain};
use crate::feed::shape::Shape;
use crate::feed::{Connection, literal, table_name, with_tuple};

/// Before the columns: the time.
const BEFORE_COLUMNS: usize = 1;

/// Looks into every table whose ids the id may be one of.
pub(super) async fn find(
    pipeline: &Pipeline,
    connection: &Connection,
    ways: &Ways,
) -> Result<Vec<RowStory>, Failure> {
    let mut found = Vec::new();
    for (id, spec, state) in pipeline.outboxes() {
        let shape = Shape::read(connection, spec, state).await?;
        if !shape.fits(&ways.event_id) {
            continue;
        }
        let mut rows = connection.stream(&select(&shape, &ways.event_id)).await?;
        while let Some(row) = rows.next().await? {
            let table = Table {
                pipeline,
                id,
                spec,
                state,
                shape: &shape,
            };
            found.push(table.story(&row, ways.payloads)?);
        }
    }
    Ok(found)
}

fn select(shape: &Shape, event_id: &str) -> String {
    let at = shape.occurred_at.as_ref().map_or("NULL".to_owned(), |at| {
        format!("CASE WHEN isfinite(t.{at}) THEN (extract(epoch FROM t.{at}) * 1000)::bigint END")
    });
    let (table, columns) = (&shape.table, shape.columns());
    let (id, kind, given) = (&shape.id, &shape.id_type, literal(event_id));
    format!("SELECT {at}{columns} FROM {table} t WHERE t.{id} = {given}::text::{kind}")
}

struct Table<'a> {
    pipeline: &'a Pipeline,
    id: TableId,
    spec: &'a TableSpec,
    state: &'a StateSpec,
    shape: &'a Shape,
}

impl Table<'_> {
    fn story(&self, row: &SimpleQueryRow, payloads: Payloads) -> Result<RowStory, Failure> {
        let text = |name: &str| {
            let index = self.shape.relation.column_index(name)?;
            row.get(BEFORE_COLUMNS + index).map(str::to_owned)
        };
        let optional = |column: &OptionalColumn| match column {
            OptionalColumn::Unmapped => None,
            OptionalColumn::IfPresent(name) | OptionalColumn::Mapped(name) => text(name),
        };
        let columns = &self.spec.columns;
        let (topic, unmappable) = match self.topic(row)? {
            Ok(topic) => (Some(topic), None),
            Err(reason) => (None, Some(reason)),
        };
        Ok(RowStory {
            table: table_name(self.spec),
            event_type: text(&columns.event_type),
            transfer_id: optional(&columns.transfer_id),
            occurred_at: optional(&columns.occurred_at),
            state: text(&self.state.state),
            attempts: optional(&self.state.attempts),
            last_error: optional(&self.state.last_error),
            topic,
            unmappable,
            payload: match payloads {
                Payloads::Shown => text(&columns.payload),
                Payloads::Hidden => None,
            },
            at_ms: row.get(0).and_then(|text| text.parse().ok()),
        })
    }

    /// Where its event goes, or why it can't become one.
    fn topic(&self, row: &SimpleQueryRow) -> Result<Result<String, String>, Failure> {
        let relation = &self.shape.relation;
        let mut mapper = RowMapper::compile(self.spec, self.id, &self.pipeline.topics, relation)
            .map_err(|e| Failure::new("mapping", chain(&e)))?;
        let origin = Origin {
            position: Position {
                commit_lsn: CommitLsn(Lsn::INVALID),
                index: 0,
            },
            commit_time: PgTimestamp(0),
            xid: 0,
        };
        let mut batch = RecordBatch::new();
        let mapped = with_tuple(row, BEFORE_COLUMNS, |tuple| {
            mapper.map(tuple, origin, &mut batch)
        })?;
        let topic = batch.get(0).map(|record| record.topic.to_owned());
        Ok(mapped
            .map(|()| topic.unwrap_or_default())
            .map_err(|e| chain(&e)))
    }
}
