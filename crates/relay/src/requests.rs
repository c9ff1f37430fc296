//! What operators have asked of the relay: the rows of `outboxd.control`, as audits and traces read them.

use std::collections::HashSet;

use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::failure::Failure;
use crate::feed::{self, Connection};
use crate::sql::rfc3339;

/// Requests that are listed; a person writes few.
const LISTED: i64 = 10_000;

/// A request of an operator.
#[derive(Debug, Clone, Serialize)]
pub struct Request {
    /// Its id.
    pub request: String,
    /// When it was made.
    pub at: String,
    /// Who made it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What was to be done.
    pub command: serde_json::Value,
}

/// The requests to a slot's relay since a time and before another, the oldest first.
pub(crate) async fn between(
    connection: &Connection,
    slot: &str,
    since: &str,
    until: &str,
) -> Result<Vec<Request>, Failure> {
    if !feed::present(connection).await? {
        return Ok(Vec::new());
    }
    let condition = "slot = $1 AND requested_at >= $2::text::timestamptz \
                     AND requested_at < $3::text::timestamptz";
    select(connection, condition, &[&slot, &since, &until]).await
}

/// The ids of all requests to a slot's relay; none without schema `outboxd`.
pub(crate) async fn ids(connection: &Connection, slot: &str) -> Result<HashSet<String>, Failure> {
    if !feed::present(connection).await? {
        return Ok(HashSet::new());
    }
    let sql = "SELECT request_id::text FROM outboxd.control WHERE slot = $1";
    let rows = connection.rows(sql, &[&slot]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The requests with these ids, and those whose command names `event_id`, the oldest first.
pub(crate) async fn about(
    connection: &Connection,
    ids: &[String],
    event_id: &str,
) -> Result<Vec<Request>, Failure> {
    let condition = "request_id::text = ANY ($1) OR command->'filter'->'ids' ? $2";
    select(connection, condition, &[&ids, &event_id]).await
}

/// When the newest requests to a slot's relay that may have published something were made since a time;
/// milliseconds since 1970, so many at most.
pub(crate) async fn times_since(
    connection: &Connection,
    slot: &str,
    since_ms: i64,
    max: i64,
) -> Result<Vec<i64>, Failure> {
    if !feed::present(connection).await? {
        return Ok(Vec::new());
    }
    let sql = "SELECT floor(extract(epoch FROM requested_at) * 1000)::bigint FROM outboxd.control \
               WHERE slot = $1 AND requested_at >= to_timestamp($2::bigint / 1000.0) \
                 AND command->>'command' <> 'dlq-drop' \
               ORDER BY requested_at DESC LIMIT $3";
    let rows = connection.rows(sql, &[&slot, &since_ms, &max]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn select(
    connection: &Connection,
    condition: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Request>, Failure> {
    let at = rfc3339("requested_at");
    let sql = format!(
        "SELECT request_id::text, {at}, requested_by, reason, command::text \
         FROM outboxd.control WHERE {condition} ORDER BY requested_at LIMIT {LISTED}"
    );
    let rows = connection.rows(&sql, params).await?;
    Ok(rows.iter().map(request).collect())
}

fn request(row: &Row) -> Request {
    let command: String = row.get(4);
    Request {
        request: row.get(0),
        at: row.get(1),
        by: row.get(2),
        reason: row.get(3),
        command: serde_json::from_str(&command).unwrap_or(serde_json::Value::String(command)),
    }
}
