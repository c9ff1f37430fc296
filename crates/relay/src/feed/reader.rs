//! Reads the rows of a feed, in their order and as the tables have them now.

use delivery::{FedRow, FeedProgress};
use envelope::TableId;
use pgoutput::{PgTimestamp, Relation};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::SimpleQueryRow;

use super::shape::Shape;
use super::tuple::{insertion, tuple};
use super::{Connection, literal, table_name};
use crate::config::Pipeline;
use crate::failure::Failure;

/// Rows whose ids are looked up together.
const PAGE: i64 = 500;
/// Rows between the server and the driver.
const BUFFERED: usize = 8;

/// What comes of a feed.
#[derive(Debug)]
pub enum Fed {
    /// A table as it is for the rows that follow.
    Relation(Relation),
    /// A row.
    Row(Row),
    /// There is no further row.
    End {
        /// Rows that have been deleted since, or whose table is not configured any more.
        missing: u64,
    },
}

/// A row with its values.
#[derive(Debug)]
pub struct Row {
    table: TableId,
    ordinal: u64,
    time: PgTimestamp,
    /// As the stream would have its insertion.
    insert: Vec<u8>,
}

impl Row {
    /// For the state machine.
    pub fn as_fed(&self) -> Result<FedRow<'_>, Failure> {
        Ok(FedRow {
            table: self.table,
            ordinal: self.ordinal,
            time: self.time,
            tuple: tuple(&self.insert)?,
        })
    }
}

/// Reads in a task of its own, which ends with it.
pub struct Reader {
    rows: mpsc::Receiver<Result<Fed, Failure>>,
    task: JoinHandle<()>,
}

impl Reader {
    /// Starts reading behind the last row whose table was told.
    pub fn start(pipeline: &Pipeline, feed: &FeedProgress) -> Self {
        let (sender, rows) = mpsc::channel(BUFFERED);
        let mut pages = Pages {
            pipeline: pipeline.clone(),
            request: feed.request.clone(),
            after: feed.fed.marked,
            published: feed.fed.done,
            listed: feed.rows,
            announced: None,
            missing: 0,
            sender,
        };
        let task = tokio::spawn(async move {
            if let Err(failure) = pages.read().await {
                let _ = pages.sender.send(Err(failure)).await;
            }
        });
        Self { rows, task }
    }

    /// What comes next; cancel-safe. Behind the end nothing comes.
    pub async fn next(&mut self) -> Result<Fed, Failure> {
        let ended = || Failure::new("postgres-lost", "the reader of the feed has ended");
        self.rows.recv().await.unwrap_or_else(|| Err(ended()))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Pages {
    pipeline: Pipeline,
    request: String,
    /// Ordinal of the last row that was looked up.
    after: u64,
    /// Ordinal of the last row that an earlier session published: it may be gone by now.
    published: u64,
    /// How many rows the list has.
    listed: u64,
    /// The table whose relation was the last to be announced, and how it is read.
    announced: Option<(String, Table)>,
    missing: u64,
    sender: mpsc::Sender<Result<Fed, Failure>>,
}

/// How the rows of a table are read.
#[derive(Clone)]
struct Table {
    id: TableId,
    shape: Shape,
}

/// Rows of one table that follow each other.
struct Run {
    table: String,
    ordinals: Vec<u64>,
}

impl Pages {
    async fn read(&mut self) -> Result<(), Failure> {
        let connection = Connection::open(&self.pipeline.postgres).await?;
        loop {
            if self.after >= self.listed {
                let missing = self.missing;
                return self.send(Fed::End { missing }).await;
            }
            let runs = self.page(&connection).await?;
            for run in runs {
                self.run(&connection, &run).await?;
            }
        }
    }

    async fn send(&self, fed: Fed) -> Result<(), Failure> {
        let sent = self.sender.send(Ok(fed)).await;
        sent.map_err(|_| Failure::new("internal", "nobody reads the feed any more"))
    }

    /// The next rows of the list, which has no gap: a list that was deleted, or that a promoted server
    /// never had, is not taken for one that is done.
    async fn page(&mut self, connection: &Connection) -> Result<Vec<Run>, Failure> {
        let sql = "SELECT ordinal, table_name FROM outboxd.feed_rows \
                   WHERE request_id = $1::text::uuid AND ordinal > $2 ORDER BY ordinal LIMIT $3";
        let after = i64::try_from(self.after).unwrap_or(i64::MAX);
        let rows = connection
            .rows(sql, &[&self.request, &after, &PAGE])
            .await?;
        let mut runs: Vec<Run> = Vec::new();
        for row in rows {
            let (ordinal, table): (i64, String) = (row.get(0), row.get(1));
            let ordinal = ordinal.unsigned_abs();
            if ordinal != self.after + 1 {
                return Err(self.lost());
            }
            self.after = ordinal;
            match runs.last_mut() {
                Some(run) if run.table == table && ordinal != self.published + 1 => {
                    run.ordinals.push(ordinal)
                }
                Some(_) | None => runs.push(Run {
                    table,
                    ordinals: vec![ordinal],
                }),
            }
        }
        if runs.is_empty() {
            return Err(self.lost());
        }
        Ok(runs)
    }

    fn lost(&self) -> Failure {
        let (next, listed, request) = (self.after + 1, self.listed, &self.request);
        let message =
            format!("row {next} of {listed} of feed {request} is not in outboxd.feed_rows");
        Failure::new("feed-lost", message)
    }

    async fn run(&mut self, connection: &Connection, run: &Run) -> Result<(), Failure> {
        let Some(table) = self.announce(connection, &run.table).await? else {
            return self.miss(run, run.ordinals.len());
        };
        let sql = select(&table.shape, &self.request, run);
        let mut found = Found::default();
        let mut rows = connection.stream(&sql).await?;
        while let Some(row) = rows.next().await? {
            if let Some(row) = found.take(table.id, &row)? {
                self.send(Fed::Row(row)).await?;
            }
        }
        self.miss(run, run.ordinals.len().saturating_sub(found.rows))
    }

    /// How a table is read; `None` if it is not configured.
    async fn announce(
        &mut self,
        connection: &Connection,
        name: &str,
    ) -> Result<Option<Table>, Failure> {
        if let Some((announced, table)) = &self.announced
            && announced == name
        {
            return Ok(Some(table.clone()));
        }
        let mut outboxes = self.pipeline.outboxes();
        let Some((id, spec, state)) = outboxes.find(|(_, spec, _)| table_name(spec) == name) else {
            return Ok(None);
        };
        let shape = Shape::read(connection, spec, state).await?;
        let table = Table { id, shape };
        self.send(Fed::Relation(table.shape.relation.clone()))
            .await?;
        self.announced = Some((name.to_owned(), table.clone()));
        Ok(Some(table))
    }

    /// Rows that can't be published any more are told, and nothing waits for them.
    fn miss(&mut self, run: &Run, rows: usize) -> Result<(), Failure> {
        let is_published = run
            .ordinals
            .last()
            .is_some_and(|last| *last <= self.published);
        if rows > 0 && !is_published {
            self.missing += rows as u64;
            tracing::warn!(
                pipeline = self.pipeline.name,
                request = self.request,
                table = run.table,
                rows,
                from = run.ordinals.first(),
                to = run.ordinals.last(),
                "rows of a feed do not exist any more, or their table is not configured: they are not published"
            );
        }
        Ok(())
    }
}

/// Rows of a run in their order. Their time is that of the request, or now: when they were committed
/// is not known any more, and a topic's retention goes by the time of its records. The ids take the column's type: so each is found by its index.
fn select(shape: &Shape, request: &str, run: &Run) -> String {
    let columns = shape.columns();
    let (table, id, kind) = (&shape.table, &shape.id, &shape.id_type);
    let (request, name) = (literal(request), literal(&run.table));
    let first = run.ordinals.first().copied().unwrap_or_default();
    let last = run.ordinals.last().copied().unwrap_or_default();
    format!(
        "SELECT f.ordinal, (extract(epoch FROM coalesce((SELECT c.requested_at \
           FROM outboxd.control c WHERE c.request_id = f.request_id), now())) * 1000000)::bigint{columns} \
         FROM outboxd.feed_rows f JOIN {table} t ON t.{id} = f.row_id::{kind} \
         WHERE f.request_id = {request} AND f.table_name = {name} \
           AND f.ordinal BETWEEN {first} AND {last} ORDER BY f.ordinal"
    )
}

/// The rows of a run that were there.
#[derive(Default)]
struct Found {
    rows: usize,
    last: u64,
}

impl Found {
    /// Reads a row; `None` for a second one with the same id.
    fn take(&mut self, table: TableId, row: &SimpleQueryRow) -> Result<Option<Row>, Failure> {
        let number = |index: usize| row.get(index).and_then(|text| text.parse::<i64>().ok());
        let (Some(ordinal), Some(micros)) = (number(0), number(1)) else {
            return Err(Failure::new(
                "protocol",
                "a row of a feed without its place",
            ));
        };
        let ordinal = ordinal.unsigned_abs();
        if ordinal == self.last {
            return Ok(None);
        }
        (self.last, self.rows) = (ordinal, self.rows + 1);
        Ok(Some(Row {
            table,
            ordinal,
            time: PgTimestamp::from_unix_micros(micros),
            insert: insertion(row, 2),
        }))
    }
}
