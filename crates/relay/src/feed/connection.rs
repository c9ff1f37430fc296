//! A connection for statements that may take long.

use std::ops::Deref;
use std::pin::Pin;

use futures_util::StreamExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, SimpleQueryMessage, SimpleQueryRow, SimpleQueryStream};

use crate::config::Postgres;
use crate::failure::Failure;
use crate::source;
use crate::source::catalog::Catalog;

/// Texts look as they do in the stream. Rows are looked up one by one through the index of their id,
/// however few there are by the statistics.
const SETTINGS: &str = "SET statement_timeout = 0; SET lock_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0; SET standard_conforming_strings = on; \
     SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; \
     SET bytea_output = 'hex'; SET extra_float_digits = 1; \
     SET enable_hashjoin = off; SET enable_mergejoin = off";

/// A connection to the primary whose statements may take as long as they need; a server that is gone
/// is noticed by TCP.
pub struct Connection(Catalog);

impl Deref for Connection {
    type Target = Catalog;

    fn deref(&self) -> &Catalog {
        &self.0
    }
}

impl Connection {
    /// Connects to the first configured host that is the primary.
    pub async fn open(postgres: &Postgres) -> Result<Self, Failure> {
        let connection = Self(source::primary(postgres).await?);
        connection.execute(SETTINGS).await?;
        Ok(connection)
    }

    /// As [`open`](Self::open), in a transaction that sees what the snapshot has.
    pub async fn in_snapshot(postgres: &Postgres, snapshot: &str) -> Result<Self, Failure> {
        let connection = Self::open(postgres).await?;
        let name = super::literal(snapshot);
        let begin =
            format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT {name}");
        connection.execute(&begin).await?;
        Ok(connection)
    }

    /// Statements without parameters or result.
    pub async fn execute(&self, sql: &str) -> Result<(), Failure> {
        let done = self.client().batch_execute(sql).await;
        done.map_err(|e| failed(&e))
    }

    /// A statement; how many rows it concerned.
    pub async fn change(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, Failure> {
        let done = self.client().execute(sql, params).await;
        done.map_err(|e| failed(&e))
    }

    /// All rows of a query.
    pub async fn rows(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let rows = self.client().query(sql, params).await;
        rows.map_err(|e| failed(&e))
    }

    /// The rows of a query without parameters, as texts, one after the other as they come.
    pub async fn stream(&self, sql: &str) -> Result<Texts, Failure> {
        let rows = self.client().simple_query_raw(sql).await;
        Ok(Texts(Box::pin(rows.map_err(|e| failed(&e))?)))
    }
}

/// Rows on their way. No more are held than the server has just sent.
pub struct Texts(Pin<Box<SimpleQueryStream>>);

impl Texts {
    /// The next row, if there is one.
    pub async fn next(&mut self) -> Result<Option<SimpleQueryRow>, Failure> {
        while let Some(message) = self.0.next().await {
            if let SimpleQueryMessage::Row(row) = message.map_err(|e| failed(&e))? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

fn failed(error: &tokio_postgres::Error) -> Failure {
    source::failure("reading or writing rows", error)
}
