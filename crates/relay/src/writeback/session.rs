//! The connection of the write-back, and what it knows of the tables.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use delivery::Identity;
use envelope::TableId;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::batch::TableRows;
use super::error::classify;
use super::snapshot::Snapshot;
use super::standbys::Standbys;
use super::{statement, table};
use crate::config::{Host, Pipeline};
use crate::failure::Failure;
use crate::source::catalog::Catalog;
use crate::source::link::{Link, Purpose};
use crate::source::silent;

/// Rows that one statement updates, so that it holds its locks only for moments.
const STATEMENT_ROWS: usize = 5_000;
/// A server that has not answered a statement for this long is given up; it cancels one that takes
/// long earlier.
const ANSWER_PATIENCE: Duration = Duration::from_secs(75);
/// Transactions that are not visible after this long are worth telling of.
const VISIBILITY_PATIENCE: Duration = Duration::from_secs(10);
const VISIBILITY_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Without `row_security`, rows that a policy hides would be taken for deleted ones: this way they
/// are an error. A local commit is enough: what a standby must have is waited for.
pub(super) const PURPOSE: Purpose = Purpose {
    name: "the write-back connection",
    suffix: " write-back",
    options: "-c lock_timeout=1s -c statement_timeout=60s -c synchronous_commit=local \
              -c row_security=off -c timezone=UTC -c idle_in_transaction_session_timeout=0",
};

/// Cluster and timeline of the server that is connected to; timeline -1 if it is a standby.
const IDENTITY: &str = "SELECT system_identifier::text, CASE WHEN pg_is_in_recovery() THEN -1 \
     ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int8 END \
     FROM pg_control_system()";

/// The server whose stream says what is to be written.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where it is.
    pub host: Host,
    /// Who it is.
    pub identity: Identity,
}

impl Server {
    /// The server of a session.
    pub fn new(catalog: &Catalog, identity: &Identity) -> Self {
        Self {
            host: catalog.host().clone(),
            identity: identity.clone(),
        }
    }
}

/// How many rows were updated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Updated {
    pub sent: u64,
    pub failed: u64,
    /// Gone, or not pending any more.
    pub passed_over: u64,
}

struct Statements {
    sent: Statement,
    revived: Statement,
    recovered: Statement,
    failed: Statement,
}

/// A connection with its prepared statements.
pub(super) struct Session {
    client: Client,
    tables: BTreeMap<TableId, Statements>,
    standbys: Standbys,
}

impl Session {
    /// Connects to the server and looks at the tables.
    pub async fn open(pipeline: &Pipeline, server: &Server) -> Result<Self, Failure> {
        let postgres = pipeline.postgres.for_write_back();
        let link = Link::connect(&postgres, &server.host, PURPOSE).await?;
        let standbys = Standbys::prepare(&link.client, &server.identity.slot).await?;
        let mut session = Self {
            client: link.client,
            tables: BTreeMap::new(),
            standbys,
        };
        session.require(server).await?;
        for (id, spec, state) in pipeline.written_back() {
            let outbox = table::load(&session.client, spec, state).await?;
            let prepare = async |sql: String| {
                let statement = session.client.prepare(&sql).await;
                statement.map_err(|e| classify("preparing the write-back", &e))
            };
            let statements = Statements {
                sent: prepare(statement::sent(&outbox)).await?,
                revived: prepare(statement::revived(&outbox)).await?,
                recovered: prepare(statement::recovered(&outbox)).await?,
                failed: prepare(statement::failed(&outbox)).await?,
            };
            session.tables.insert(id, statements);
        }
        Ok(session)
    }

    /// Behind one name there may be another server than the one that is streamed from, or the same
    /// one with another history.
    async fn require(&self, server: &Server) -> Result<(), Failure> {
        let row = self.client.query_one(IDENTITY, &[]).await;
        let row = row.map_err(|e| classify("identifying the server", &e))?;
        let (cluster, timeline): (String, i64) = (row.get(0), row.get(1));
        let is_cluster = cluster == server.identity.system_identifier;
        if is_cluster && timeline == i64::from(server.identity.timeline) {
            return Ok(());
        }
        let what = match is_cluster {
            true => "is a standby or on another timeline than",
            false => "is of another cluster than",
        };
        let message = format!("{} {what} the one that is streamed", server.host);
        Err(Failure::new("postgres-lost", message))
    }

    /// Waits until every transaction has ended in the eyes of this session: what commits is in the
    /// WAL before anybody sees it, and with a synchronous standby long before.
    pub async fn see(&self, xids: &[u32]) -> Result<(), Failure> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let snapshot = self.snapshot().await?;
            let Some(xid) = xids.iter().find(|xid| !snapshot.has_ended(**xid)) else {
                return Ok(());
            };
            if began.elapsed() > VISIBILITY_PATIENCE {
                let message = format!(
                    "transaction {xid} is in the WAL, but not yet visible: its commit may be \
                     waiting for a synchronous standby"
                );
                return Err(Failure::new("write-back-blocked", message));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(VISIBILITY_PAUSE_MAX);
        }
    }

    async fn snapshot(&self) -> Result<Snapshot, Failure> {
        let query = self
            .client
            .query_one("SELECT pg_current_snapshot()::text", &[]);
        let row = answer("looking at running transactions", query).await?;
        row.get::<_, &str>(0).parse()
    }

    /// Up to where standbys that count must have the WAL, so that they have what was written; none do if
    /// `None`.
    pub async fn end_for_standbys(&self) -> Result<Option<String>, Failure> {
        self.standbys.end(&self.client).await
    }

    /// Waits until the standbys that count have it.
    pub async fn await_standbys(&self, end: &str) -> Result<(), Failure> {
        self.standbys.receive(&self.client, end).await
    }

    /// Updates rows of one table.
    pub async fn update(&self, table: TableId, rows: &TableRows<'_>) -> Result<Updated, Failure> {
        let mut updated = Updated::default();
        let Some(statements) = self.tables.get(&table) else {
            return Ok(updated);
        };
        for ids in rows.sent.chunks(STATEMENT_ROWS) {
            updated.sent += self.execute(&statements.sent, &[&ids]).await?;
        }
        for ids in rows.revived.chunks(STATEMENT_ROWS) {
            updated.sent += self.execute(&statements.revived, &[&ids]).await?;
        }
        for ids in rows.recovered.chunks(STATEMENT_ROWS) {
            updated.sent += self.execute(&statements.recovered, &[&ids]).await?;
        }
        let attempts = rows.attempts.chunks(STATEMENT_ROWS);
        let errors = rows.errors.chunks(STATEMENT_ROWS);
        let ids = rows.failed.chunks(STATEMENT_ROWS);
        for ((ids, attempts), errors) in ids.zip(attempts).zip(errors) {
            let params: [&(dyn ToSql + Sync); 3] = [&ids, &attempts, &errors];
            updated.failed += self.execute(&statements.failed, &params).await?;
        }
        let asked =
            (rows.sent.len() + rows.revived.len() + rows.recovered.len() + rows.failed.len())
                as u64;
        updated.passed_over = asked.saturating_sub(updated.sent + updated.failed);
        Ok(updated)
    }

    async fn execute(
        &self,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Failure> {
        answer(
            "writing outcomes back",
            self.client.execute(statement, params),
        )
        .await
    }
}

pub(super) async fn answer<T>(
    attempt: &str,
    query: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER_PATIENCE, query).await {
        Ok(answer) => answer.map_err(|e| classify(attempt, &e)),
        Err(_) => Err(silent(attempt, ANSWER_PATIENCE)),
    }
}
