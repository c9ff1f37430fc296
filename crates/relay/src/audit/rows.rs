//! The rows of a time, each with what the mapping makes of it.

use envelope::{Origin, RecordBatch, RowMapper, TableId, TableSpec};
use pgoutput::{CommitLsn, Lsn, Position};
use tokio_postgres::SimpleQueryRow;

use super::content::{Content, NO_COMMIT_TIME};
use super::entry::{Entry, Mapped, Row, State};
use super::report::TableCount;
use super::spill::Spill;
use crate::config::{Pipeline, StateSpec};
use crate::failure::{Failure, chain};
use crate::feed::shape::Shape;
use crate::feed::{Connection, literal, table_name, with_tuple};

/// A row tells no position.
const NOWHERE: Origin = Origin {
    position: Position {
        commit_lsn: CommitLsn(Lsn::INVALID),
        index: 0,
    },
    commit_time: NO_COMMIT_TIME,
    xid: 0,
};
/// Before the columns: the time, and the state.
const BEFORE_COLUMNS: usize = 2;
/// Rows after which progress is told.
const STEP: u64 = 10_000;

/// A time, as Postgres reads it.
#[derive(Debug, Clone)]
pub(super) struct Period {
    pub since: String,
    pub until: String,
}

/// Notes the rows of a table, in the transaction of the connection.
pub(super) async fn read(
    pipeline: &Pipeline,
    connection: &Connection,
    outbox: (TableId, &TableSpec, &StateSpec),
    period: &Period,
    spill: &mut Spill,
    mut tell: impl FnMut(u64),
) -> Result<TableCount, Failure> {
    let (id, spec, state) = outbox;
    let shape = Shape::read(connection, spec, state).await?;
    let mapper = RowMapper::compile(spec, id, &pipeline.topics, &shape.relation)
        .map_err(|e| Failure::new("mapping", chain(&e)))?;
    let mut noting = Noting {
        id,
        id_column: column(&shape, &spec.columns.id),
        type_column: column(&shape, &spec.columns.event_type),
        has_time: shape.occurred_at.is_some(),
        mapper,
        batch: RecordBatch::new(),
    };
    let mut count = TableCount {
        table: table_name(spec),
        ..TableCount::default()
    };
    let mut rows = connection.stream(&select(&shape, period)).await?;
    while let Some(row) = rows.next().await? {
        match noting.note(&row)? {
            Some(row) => {
                count.rows += 1;
                spill.add(&Entry::Row(row))?;
            }
            None => count.untold += 1,
        }
        if count.rows.is_multiple_of(STEP) {
            tell(count.rows);
        }
    }
    Ok(count)
}

fn column(shape: &Shape, name: &str) -> usize {
    BEFORE_COLUMNS + shape.relation.column_index(name).unwrap_or_default()
}

/// Rows of the time, and those without a time: they are counted.
fn select(shape: &Shape, period: &Period) -> String {
    let (table, columns) = (&shape.table, shape.columns());
    let state = shape.state.as_ref();
    let state = state.map_or("NULL".to_owned(), |column| format!("t.{column}::text"));
    let Some(at) = &shape.occurred_at else {
        return format!("SELECT NULL, {state}{columns} FROM {table} t");
    };
    let (since, until) = (literal(&period.since), literal(&period.until));
    format!(
        "SELECT CASE WHEN isfinite(t.{at}) THEN (extract(epoch FROM t.{at}) * 1000)::bigint END, \
           {state}{columns} FROM {table} t \
         WHERE (t.{at} >= {since}::timestamptz AND t.{at} < {until}::timestamptz) OR t.{at} IS NULL"
    )
}

/// How rows of a table are noted.
struct Noting {
    id: TableId,
    id_column: usize,
    type_column: usize,
    has_time: bool,
    mapper: RowMapper,
    batch: RecordBatch,
}

impl Noting {
    /// `None` for a row that can't be looked for: it has no id, or no time though its table has one.
    fn note(&mut self, row: &SimpleQueryRow) -> Result<Option<Row>, Failure> {
        let at_ms = row.get(0).and_then(|text| text.parse().ok());
        let Some(id) = row.get(self.id_column) else {
            return Ok(None);
        };
        if self.has_time && at_ms.is_none() {
            return Ok(None);
        }
        Ok(Some(Row {
            table: self.id.0,
            id: id.to_owned(),
            event_type: row.get(self.type_column).unwrap_or_default().to_owned(),
            state: State::read(row.get(1)),
            at_ms,
            mapped: self.map(row)?,
        }))
    }

    fn map(&mut self, row: &SimpleQueryRow) -> Result<Mapped, Failure> {
        self.batch.clear();
        let (mapper, batch) = (&mut self.mapper, &mut self.batch);
        let mapped = with_tuple(row, BEFORE_COLUMNS, |tuple| {
            mapper.map(tuple, NOWHERE, batch)
        })?;
        if let Err(error) = mapped {
            return Ok(Mapped::Nothing(chain(&error)));
        }
        let record = self.batch.get(0);
        let record = record.ok_or_else(|| Failure::new("internal", "a row became no record"))?;
        let (content, dated) = Content::of_row(&record);
        Ok(Mapped::Event {
            topic: record.topic.to_owned(),
            content,
            dated,
        })
    }
}
