//! The rows that may be unpublished.

use envelope::{TableId, TableSpec};
use tokio_postgres::Row;

use super::proof::Proof;
use crate::config::{Pipeline, StateSpec, WriteBack};
use crate::failure::Failure;
use crate::feed::gather::Filter;
use crate::feed::shape::Shape;
use crate::feed::{Connection, table_name, whole};

/// Rows fetched together.
const PAGE: usize = 1_000;

/// A table and which of its rows are suspected.
pub(super) struct Suspects {
    pub id: TableId,
    pub table: String,
    pub shape: Shape,
    pub mode: WriteBack,
    /// Why not all of its rows can be told; for a person.
    pub doubt: Option<String>,
    /// How the rows were chosen, in words.
    pub chosen_by: String,
    condition: String,
    order: String,
}

/// A row, and what it is called.
pub(super) struct Suspect {
    pub id: String,
    pub event_type: String,
    /// The time of the event, if it has one.
    pub at: Option<String>,
}

impl Suspects {
    /// The suspects of every table. `since`: rows of events before that time are taken as published
    /// where no state tells.
    pub async fn of(
        pipeline: &Pipeline,
        connection: &Connection,
        since: Option<&str>,
    ) -> Result<Vec<Self>, Failure> {
        let mut all = Vec::with_capacity(pipeline.tables.len());
        for (id, spec, state) in pipeline.outboxes() {
            let order_by = pipeline.backfill.order_by.as_deref();
            all.push(Self::of_table(connection, id, (spec, state), since, order_by).await?);
        }
        Ok(all)
    }

    async fn of_table(
        connection: &Connection,
        id: TableId,
        (spec, state): (&TableSpec, &StateSpec),
        since: Option<&str>,
        order_by: Option<&str>,
    ) -> Result<Self, Failure> {
        let shape = Shape::read(connection, spec, state).await?;
        let has_time = shape.occurred_at.is_some();
        let since = since.filter(|_| has_time).map(str::to_owned);
        let is_pending = state.mode != WriteBack::Off && shape.state.is_some();
        let tells = state.mode == WriteBack::All && is_pending;
        let filter = Filter {
            is_pending,
            since: since.clone().filter(|_| !tells),
            ..Filter::default()
        };
        let chosen_by = match (tells, &filter.since) {
            (true, _) => "rows that are PENDING".to_owned(),
            (false, Some(since)) => format!("rows of events since {since}"),
            (false, None) => "all rows".to_owned(),
        };
        let doubt = (!tells).then(|| {
            let mut doubt =
                "no state is written back that would tell which rows are published: only the topics \
                 do, and rows that were deleted meanwhile can't be seen"
                    .to_owned();
            if filter.since.is_some() {
                doubt.push_str(
                    "; rows of earlier events are taken as published by the time that the service \
                     gave them",
                );
            }
            doubt
        });
        Ok(Self {
            id,
            table: table_name(spec),
            condition: filter.condition(&shape, spec)?,
            order: shape.order(order_by, spec)?,
            mode: state.mode,
            doubt,
            chosen_by,
            shape,
        })
    }

    /// Whether every row of the table is suspected.
    pub async fn is_whole(
        &self,
        connection: &Connection,
        pipeline: &Pipeline,
        spec: &TableSpec,
    ) -> Result<bool, Failure> {
        whole::leaves_out_none(connection, pipeline, spec, &self.condition).await
    }

    /// Adds them to the proof.
    pub async fn load(&self, connection: &Connection, proof: &mut Proof) -> Result<(), Failure> {
        let Shape {
            table,
            id,
            event_type,
            ..
        } = &self.shape;
        let condition = &self.condition;
        let sql =
            format!("SELECT t.{id}::text, t.{event_type}::text FROM {table} t WHERE {condition}");
        let mut rows = connection.stream(&sql).await?;
        while let Some(row) = rows.next().await? {
            proof.suspect(row.get(1).unwrap_or(""), row.get(0).unwrap_or(""))?;
        }
        Ok(())
    }

    /// Opens a cursor over them, in their order, in the transaction of the connection.
    pub async fn open(&self, connection: &Connection) -> Result<(), Failure> {
        let Shape {
            table,
            id,
            event_type,
            occurred_at,
            ..
        } = &self.shape;
        let at = occurred_at
            .as_ref()
            .map_or("NULL".to_owned(), |column| format!("t.{column}::text"));
        let (condition, order) = (&self.condition, &self.order);
        let sql = format!(
            "DECLARE suspects NO SCROLL CURSOR FOR SELECT t.{id}::text, t.{event_type}::text, {at} \
             FROM {table} t WHERE {condition} ORDER BY {order}"
        );
        connection.execute(&sql).await
    }

    /// The next rows of the cursor; none at its end.
    pub async fn fetch(connection: &Connection) -> Result<Vec<Suspect>, Failure> {
        let sql = format!("FETCH {PAGE} FROM suspects");
        let rows = connection.rows(&sql, &[]).await?;
        let suspect = |row: &Row| Suspect {
            id: row.get::<_, Option<String>>(0).unwrap_or_default(),
            event_type: row.get::<_, Option<String>>(1).unwrap_or_default(),
            at: row.get(2),
        };
        Ok(rows.iter().map(suspect).collect())
    }

    /// Closes the cursor.
    pub async fn close(connection: &Connection) -> Result<(), Failure> {
        connection.execute("CLOSE suspects").await
    }
}
