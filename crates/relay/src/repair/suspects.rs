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

    /// Which of these ids are not in the table.
    pub async fn absent(
        &self,
        connection: &Connection,
        ids: &[String],
    ) -> Result<Vec<String>, Failure> {
        let (table, id, kind) = (&self.shape.table, &self.shape.id, &self.shape.id_type);
        let (fitting, mut absent): (Vec<_>, Vec<_>) =
            ids.iter().cloned().partition(|text| fits(kind, text));
        let sql = format!(
            "SELECT given FROM unnest($1::text[]) given \
             WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{id} = given::{kind})"
        );
        let rows = connection.rows(&sql, &[&fitting]).await?;
        absent.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        Ok(absent)
    }
}

/// Whether a text can be an id of this type: of another table's events it may not be.
fn fits(kind: &str, text: &str) -> bool {
    match kind {
        "uuid" => {
            let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
            digits == 32 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
        }
        "bigint" => text.parse::<i64>().is_ok(),
        "integer" => text.parse::<i32>().is_ok(),
        "smallint" => text.parse::<i16>().is_ok(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_other_tables_are_not_cast() {
        assert!(fits("uuid", "018f4bd0-0000-4000-8000-00000000000a"));
        assert!(!fits("uuid", "17"));
        assert!(fits("bigint", "17") && !fits("integer", "99999999999"));
        assert!(fits("text", "anything"));
    }
}
