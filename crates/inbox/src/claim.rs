//! What makes a transaction of a handler count once: claims of event ids, or stored offsets.

use std::collections::HashSet;

use deadpool_postgres::Transaction;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::failure::Failure;

/// Gives the new ids, and the transaction with each. In the order of the ids: two transactions that claim the
/// same ones can't wait for each other.
const CLAIM: &str = "INSERT INTO inbox (event_id, consumer) \
    SELECT id, $2 FROM unnest($1::text[]) AS given (id) ON CONFLICT DO NOTHING \
    RETURNING event_id, pg_current_xact_id()::text";

/// Gives the transaction. Refused if the partition is handled beyond the first event already: by another
/// consumer, to which the partition has gone.
const ADVANCE: &str = "INSERT INTO inbox_offsets AS stored \
    (consumer, topic, partition_id, next_offset) VALUES ($1, $2, $3, $5) \
    ON CONFLICT (consumer, topic, partition_id) DO UPDATE SET next_offset = excluded.next_offset \
    WHERE stored.next_offset <= $4 RETURNING pg_current_xact_id()::text";

const STORED: &str =
    "SELECT topic, partition_id, next_offset FROM inbox_offsets WHERE consumer = $1";

/// Events of one partition that are handled together, without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub topic: String,
    pub partition: i32,
    pub first: i64,
    pub last: i64,
}

/// What keeps events from being handled twice, in a transaction that is not committed yet.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Ids that nobody had claimed.
    pub new: HashSet<String>,
    /// The transaction that they stand in; empty without any.
    pub xid: String,
}

/// Claims these events.
pub(crate) async fn claim(
    tx: &Transaction<'_>,
    consumer: &str,
    ids: &[&str],
) -> Result<Claims, Failure> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let asked = async {
        let statement = tx.prepare_cached(CLAIM).await?;
        let mut claims = Claims::default();
        for row in tx.query(&statement, &[&ids, &consumer]).await? {
            claims.new.insert(row.try_get(0)?);
            if claims.xid.is_empty() {
                claims.xid = row.try_get(1)?;
            }
        }
        Ok(claims)
    };
    asked.await.map_err(Failure::of_inbox)
}

/// Stores that a stretch is handled, and in which transaction; `None` if another consumer is the one to do so.
pub(crate) async fn advance(
    tx: &Transaction<'_>,
    consumer: &str,
    stretch: &Stretch,
) -> Result<Option<String>, Failure> {
    let next = stretch.last + 1;
    let Stretch {
        topic,
        partition,
        first,
        ..
    } = stretch;
    let asked = async {
        let statement = tx.prepare_cached(ADVANCE).await?;
        let values: [&(dyn ToSql + Sync); 5] = [&consumer, topic, partition, first, &next];
        let row = tx.query_opt(&statement, &values).await?;
        row.map(|row| row.try_get(0)).transpose()
    };
    asked.await.map_err(Failure::of_inbox)
}

/// Topic, partition, and the offset from which it is not handled yet.
pub(crate) type Stored = (String, i32, i64);

/// Whether the transaction still is the one with the claims. And the commit will be durable when it is
/// answered, as the offset that follows it is: a session may be set to answer earlier.
const INTACT: &str = "SELECT pg_current_xact_id_if_assigned()::text IS NOT DISTINCT FROM $1, \
    CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') \
    THEN set_config('synchronous_commit', 'on', true) END";

/// Why a handler's transaction can't be committed.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The handler has ended it. Claims without effect, or effects without claims, may be committed.
    Ended,
    Failed(Failure),
}

/// Refuses a transaction in which a handler has hidden a failure: Postgres answers its COMMIT with a
/// ROLLBACK, which is no error.
pub(crate) async fn require_intact(tx: &Transaction<'_>, xid: &str) -> Result<(), Broken> {
    let asked = async {
        let statement = tx.prepare_cached(INTACT).await?;
        tx.query_one(&statement, &[&xid]).await?.try_get(0)
    };
    match asked.await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Broken::Ended),
        Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
            Err(Broken::Failed(Failure::transient(
                "a statement of the handler has failed, and the handler went on: return its error, or use a savepoint",
            )))
        }
        Err(error) => Err(Broken::Failed(Failure::of_inbox(error))),
    }
}

/// What was stored for a consumer.
pub(crate) async fn stored(
    client: &tokio_postgres::Client,
    consumer: &str,
) -> Result<Vec<Stored>, Error> {
    let rows = client.query(STORED, &[&consumer]).await?;
    let read = |row: tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    rows.into_iter().map(read).collect()
}

/// Whether the table exists.
pub(crate) async fn has_table(client: &tokio_postgres::Client, table: &str) -> Result<bool, Error> {
    let row = client
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&table])
        .await?;
    row.try_get(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use deadpool_postgres::{Manager, Pool};
    use testbed::Postgres;
    use tokio_postgres::NoTls;

    use super::*;

    fn stretch(first: i64, last: i64) -> Stretch {
        let topic = "t".to_owned();
        Stretch {
            topic,
            partition: 0,
            first,
            last,
        }
    }

    #[tokio::test]
    async fn who_is_overtaken_can_not_store_an_offset() {
        let server = Postgres::builder().start().unwrap();
        server
            .sql("postgres", include_str!("../../../sql/inbox_offsets.sql"))
            .unwrap();
        let config = server.superuser_url("postgres").parse().unwrap();
        let pool = Pool::builder(Manager::new(config, NoTls)).build().unwrap();
        let mut client = pool.get().await.unwrap();
        for (handled, is_first) in [
            (stretch(0, 9), true),
            // Offset 10 is a marker of a transaction.
            (stretch(11, 19), true),
            // Another consumer had read the offset before that.
            (stretch(11, 14), false),
            (stretch(15, 30), false),
            (stretch(20, 20), true),
        ] {
            let tx = client.transaction().await.unwrap();
            assert_eq!(
                advance(&tx, "c", &handled).await.unwrap().is_some(),
                is_first,
                "{handled:?}"
            );
            tx.commit().await.unwrap();
        }
        assert_eq!(
            stored(&client, "c").await.unwrap(),
            [("t".to_owned(), 0, 21)]
        );
    }
}
