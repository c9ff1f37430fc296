//! The tables of schema `outboxd`.

use std::time::Duration;

use super::Connection;
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::source::catalog::Catalog;

/// Rows deleted in one transaction.
const BATCH: i64 = 10_000;
const DISCARD_AGAIN: Duration = Duration::from_secs(5);

/// The schema's tables.
const PRESENT: &str = "SELECT count(*) = 2 FROM pg_class c \
     JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = 'outboxd' AND c.relname IN ('control', 'feed_rows')";

/// Feeds of a slot that nobody has asked for in `control`, found by one look into the index each.
const UNASKED: &str = "WITH RECURSIVE feeds(id) AS ( \
       (SELECT request_id FROM outboxd.feed_rows ORDER BY request_id LIMIT 1) \
       UNION ALL SELECT (SELECT f.request_id FROM outboxd.feed_rows f \
         WHERE f.request_id > feeds.id ORDER BY f.request_id LIMIT 1) \
       FROM feeds WHERE feeds.id IS NOT NULL) \
     SELECT id::text FROM feeds WHERE id IS NOT NULL \
       AND $1 = (SELECT f.slot FROM outboxd.feed_rows f WHERE f.request_id = feeds.id LIMIT 1) \
       AND NOT EXISTS (SELECT FROM outboxd.control c WHERE c.request_id = feeds.id)";

/// Whether the database has schema `outboxd` with its tables.
pub async fn present(catalog: &Catalog) -> Result<bool, Failure> {
    Ok(catalog.one(PRESENT, &[]).await?.get(0))
}

/// What needs the schema is refused without it.
pub async fn require(catalog: &Catalog, what: &str) -> Result<(), Failure> {
    match present(catalog).await? {
        true => Ok(()),
        false => Err(Failure::new(
            "control-missing",
            format!("{what} needs the tables of schema outboxd, which do not exist"),
        )),
    }
}

/// A request that is not in the stream would wait for ever.
pub async fn require_published(catalog: &Catalog, publication: &str) -> Result<(), Failure> {
    let sql = "SELECT EXISTS (SELECT FROM pg_publication_tables WHERE pubname = $1 \
               AND schemaname = 'outboxd' AND tablename = 'control')";
    match catalog.one(sql, &[&publication]).await?.get(0) {
        true => Ok(()),
        false => Err(Failure::new(
            "control-missing",
            format!("outboxd.control is not in publication {publication:?}"),
        )),
    }
}

/// The id of a new request: a random UUID.
pub fn new_request() -> String {
    let bits = fastrand::u128(..);
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    let parts = [
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32),
    ];
    parts.join("-")
}

/// Deletes the rows of a feed that is done, in small transactions. May be repeated.
pub async fn discard(connection: &Connection, request: &str) -> Result<(), Failure> {
    let sql = "DELETE FROM outboxd.feed_rows WHERE request_id = $1::text::uuid AND ordinal < \
               (SELECT min(ordinal) + $2 FROM outboxd.feed_rows WHERE request_id = $1::text::uuid)";
    while connection.change(sql, &[&request, &BATCH]).await? > 0 {}
    Ok(())
}

/// As [`discard`], again and again until it has succeeded.
pub async fn discard_published(pipeline: Pipeline, request: String) {
    let discarding = async || {
        let connection = Connection::open(&pipeline.postgres).await?;
        discard(&connection, &request).await
    };
    while let Err(failure) = discarding().await {
        tracing::warn!(pipeline = pipeline.name, request, %failure, "the rows of a published feed can't be deleted yet");
        tokio::time::sleep(DISCARD_AGAIN).await;
    }
    tracing::info!(pipeline = pipeline.name, request, "feed published");
}

/// Deletes what backfills and repairs that did not come to their end, or feeds that did, have left
/// behind. `current` is the feed of the checkpoint.
///
/// Call it only where nobody else can be gathering: with the lock, or with the slot held and
/// everybody else fenced. Rows of requests that stand in `outboxd.control` stay.
pub async fn sweep(
    connection: &Connection,
    slot: &str,
    current: Option<&str>,
) -> Result<(), Failure> {
    for row in connection.rows(UNASKED, &[&slot]).await? {
        let request: String = row.get(0);
        if current != Some(request.as_str()) {
            tracing::info!(request, "the rows of an old feed are deleted");
            discard(connection, &request).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_random_uuids() {
        let id = new_request();
        let lengths: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
        let at = |index: usize| id.chars().nth(index);
        assert_eq!(at(14), Some('4'), "{id}");
        assert!(at(19).is_some_and(|c| "89ab".contains(c)), "{id}");
        assert_ne!(id, new_request());
    }
}
