//! Queries beside the stream, on an ordinary connection.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use delivery::SlotFacts;
use envelope::{OptionalColumn, TableSpec};
use pgoutput::Lsn;
use tokio::sync::watch;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::error;
use super::link::{Link, Purpose};
use crate::config::{Host, Postgres};
use crate::failure::Failure;

/// A server that has not answered a query for this long is given up. It cancels a query that waits
/// (for a lock, say) earlier, at the `statement_timeout` below, so silence means that it is gone.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(12);
/// How often a server is asked whether it is still there, while something else is awaited from it.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// What the catalog connection's application name has after the replication connection's.
const SUFFIX: &str = " catalog";

const PURPOSE: Purpose = Purpose {
    name: "the catalog connection",
    suffix: SUFFIX,
    options: "-c statement_timeout=10s -c timezone=UTC -c search_path=pg_catalog",
};

/// A connection for catalog queries.
pub struct Catalog {
    client: Client,
    /// By their text. Looked at every second by every pipeline, the catalog would cost the server half of what
    /// its walsenders do if it parsed and planned each time (measured with 50, docs/performance.md).
    statements: Mutex<HashMap<String, Statement>>,
    version: i32,
    /// The application name that it connected with, as the server took it.
    name: String,
    /// Set once the connection has ended, with the reason.
    ended: watch::Receiver<Option<Failure>>,
    host: Host,
}

impl Catalog {
    /// Connects, within the connect timeout, and pins what the session depends on.
    pub async fn connect(postgres: &Postgres, host: &Host) -> Result<Self, Failure> {
        let link = Link::connect(postgres, host, PURPOSE).await?;
        let mut catalog = Self {
            client: link.client,
            statements: Mutex::default(),
            version: 0,
            name: String::new(),
            ended: link.ended,
            host: host.clone(),
        };
        let row = catalog
            .one(
                "SELECT current_setting('server_version_num')::int, \
                 current_setting('application_name')",
                &[],
            )
            .await?;
        catalog.version = row.get(0);
        catalog.name = row.get(1);
        Ok(catalog)
    }

    /// The server that it is connected to.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// `server_version_num`, such as 180004.
    pub fn server_version(&self) -> i32 {
        self.version
    }

    /// The underlying connection, for the commands of the CLI.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Resolves with the reason once the connection has ended.
    pub async fn ended(&self) -> Failure {
        let mut ended = self.ended.clone();
        let reason = match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone(),
            Err(_) => None,
        };
        reason.unwrap_or_else(|| Failure::new("postgres-lost", "the catalog connection ended"))
    }

    /// Resolves with the reason once the server no longer answers.
    pub(super) async fn silent(&self) -> Failure {
        loop {
            tokio::time::sleep(PING_INTERVAL).await;
            if let Err(failure) = self.one("SELECT 1", &[]).await {
                return failure;
            }
        }
    }

    /// One row of a query.
    pub(crate) async fn one(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, Failure> {
        answer(async {
            let statement = self.prepared(sql).await?;
            self.client.query_one(&statement, params).await
        })
        .await
    }

    /// All rows of a query.
    pub(super) async fn all(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        answer(async {
            let statement = self.prepared(sql).await?;
            self.client.query(&statement, params).await
        })
        .await
    }

    async fn prepared(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let statements = || {
            self.statements
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(known) = statements().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(sql).await?;
        statements().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Refuses a server in recovery: a standby can't be streamed from safely.
    pub async fn require_primary(&self, host: &Host) -> Result<(), Failure> {
        if self.one("SELECT pg_is_in_recovery()", &[]).await?.get(0) {
            let message = format!("{host} is a standby, not the primary");
            return Err(Failure::new("postgres-unreachable", message));
        }
        Ok(())
    }

    /// Refuses a server that can't decode.
    pub async fn require_logical(&self) -> Result<(), Failure> {
        let level: String = self
            .one("SELECT current_setting('wal_level')", &[])
            .await?
            .get(0);
        if level != "logical" {
            return Err(Failure::new(
                "wal-level",
                format!("the server's wal_level is {level:?}"),
            ));
        }
        Ok(())
    }

    /// End of the flushed WAL.
    pub async fn wal_end(&self) -> Result<Lsn, Failure> {
        lsn(
            &self
                .one("SELECT pg_current_wal_flush_lsn()::text", &[])
                .await?,
            0,
        )
    }

    /// The slot's row, if there is one. Read as JSON, for its columns differ between versions.
    pub async fn slot(&self, name: &str) -> Result<Option<SlotFacts>, Failure> {
        let sql = "SELECT to_jsonb(s)::text FROM pg_replication_slots s WHERE slot_name = $1";
        let rows = self.all(sql, &[&name]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let text: String = row.get(0);
        let slot: serde_json::Value = serde_json::from_str(&text)
            .map_err(|e| Failure::caused("protocol", "reading pg_replication_slots", &e))?;
        Ok(Some(slot_facts(&slot)))
    }
}

async fn answer<T>(
    query: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    let attempt = "querying the catalog";
    match tokio::time::timeout(ANSWER_PATIENCE, query).await {
        Ok(answer) => answer.map_err(|e| error::catalog(attempt, &e)),
        Err(_) => Err(error::silent(attempt, ANSWER_PATIENCE)),
    }
}

fn slot_facts(slot: &serde_json::Value) -> SlotFacts {
    let text = |key: &str| slot.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    let conflicting = slot.get("conflicting").and_then(serde_json::Value::as_bool) == Some(true);
    let lost = match (text("invalidation_reason"), text("wal_status").as_deref()) {
        (Some(reason), _) => Some(reason),
        (None, Some("lost")) => Some("wal_removed".into()),
        (None, _) => conflicting.then(|| "conflicting".into()),
    };
    let confirmed = text("confirmed_flush_lsn").and_then(|t| t.parse().ok());
    SlotFacts {
        plugin: text("plugin"),
        database: text("database"),
        confirmed_flush: confirmed.unwrap_or(Lsn::INVALID),
        lost,
    }
}

pub(super) fn lsn(row: &Row, column: usize) -> Result<Lsn, Failure> {
    let text: String = row.get(column);
    text.parse()
        .map_err(|e| Failure::caused("protocol", "reading an LSN", &e))
}

/// What the slot costs.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SlotUse {
    /// End of the server's WAL.
    pub wal_end: Lsn,
    /// The slot's `confirmed_flush_lsn`.
    pub confirmed_flush: Option<Lsn>,
    /// WAL written since then.
    pub lag_bytes: i64,
    /// WAL kept for the slot.
    pub retained_bytes: i64,
    /// `max_slot_wal_keep_size`, beyond which the slot is lost; `None` without a limit.
    pub retained_limit_bytes: Option<i64>,
    /// `wal_status` of the slot.
    pub wal_status: Option<String>,
}

/// The session that reads from a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process on the server.
    pub pid: i32,
    /// The name that it goes by.
    pub application_name: String,
    /// It goes by the name that a relay of this pipeline would have.
    pub is_relay: bool,
    /// Where it has connected from, if that may be seen.
    pub client: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PID {}, application {:?}",
            self.pid, self.application_name
        )?;
        match &self.client {
            Some(client) => write!(f, ", from {client}"),
            None => Ok(()),
        }
    }
}

/// Every role may read these columns (the address: of sessions of its own role), unlike the details in `pg_stat_replication`. The server cuts
/// names off and replaces characters in them, so it is asked what it makes of ours.
const HOLDER: &str = "SELECT s.active_pid, coalesce(a.application_name, ''), \
     coalesce(left(a.application_name || $2, 63) = $3, false), host(a.client_addr) \
     FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid \
     WHERE s.slot_name = $1 AND s.active_pid IS NOT NULL";

const SLOT_USE: &str = "SELECT pg_current_wal_flush_lsn()::text, confirmed_flush_lsn::text, \
     coalesce(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), confirmed_flush_lsn), 0)::bigint, \
     coalesce(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), restart_lsn), 0)::bigint, wal_status, \
     pg_size_bytes(nullif(current_setting('max_slot_wal_keep_size'), '-1')) \
     FROM pg_replication_slots WHERE slot_name = $1";

/// Rows ever written: the identity sequence of the `seq` column, else the insert statistics.
const ROWS_WRITTEN: &str = "SELECT coalesce( \
       (SELECT pg_sequence_last_value(s::regclass) \
          FROM pg_get_serial_sequence(format('%I.%I', $1::text, $2::text), $3::text) s), \
       (SELECT pg_stat_get_tuples_inserted(c.oid) FROM pg_class c \
          JOIN pg_namespace n ON n.oid = c.relnamespace \
          WHERE n.nspname = $1 AND c.relname = $2))";

impl Catalog {
    /// Who reads from the slot, if anybody does.
    pub async fn holder(&self, slot: &str) -> Result<Option<Holder>, Failure> {
        let rows = self.all(HOLDER, &[&slot, &SUFFIX, &self.name]).await?;
        Ok(rows.first().map(|row| Holder {
            pid: row.get(0),
            application_name: row.get(1),
            is_relay: row.get(2),
            client: row.get(3),
        }))
    }

    /// What the slot costs.
    pub async fn slot_use(&self, slot: &str) -> Result<SlotUse, Failure> {
        let rows = self.all(SLOT_USE, &[&slot]).await?;
        let Some(row) = rows.first() else {
            return Err(Failure::new(
                "postgres-lost",
                format!("slot {slot:?} has vanished"),
            ));
        };
        let confirmed: Option<String> = row.get(1);
        Ok(SlotUse {
            wal_end: lsn(row, 0)?,
            confirmed_flush: confirmed.and_then(|text| text.parse().ok()),
            lag_bytes: row.get(2),
            retained_bytes: row.get(3),
            wal_status: row.get(4),
            retained_limit_bytes: row.get(5),
        })
    }

    /// Rows written so far, per table; `None` where neither source can be read.
    pub async fn rows_written(&self, tables: &[TableSpec]) -> Result<Vec<Option<i64>>, Failure> {
        let mut counters = Vec::with_capacity(tables.len());
        for table in tables {
            let seq = match &table.columns.seq {
                OptionalColumn::Unmapped => "",
                OptionalColumn::IfPresent(name) | OptionalColumn::Mapped(name) => name,
            };
            let counter = self
                .all(ROWS_WRITTEN, &[&table.schema, &table.table, &seq])
                .await;
            counters.push(match counter {
                Ok(rows) => rows.first().and_then(|row| row.get(0)),
                Err(failure) if failure.code.name == error::SILENT => return Err(failure),
                Err(_) => None,
            });
        }
        Ok(counters)
    }
}
