//! What makes a transaction of a handler count once: claims of event ids, or stored offsets.

use std::collections::HashSet;

use deadpool_postgres::Transaction;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::failure::Failure;

/// In the order of the ids: two transactions that claim the same ones can't wait for each other.
const CLAIM: &str = "INSERT INTO inbox (event_id, consumer) \
    SELECT id, $2 FROM unnest($1::text[]) AS given (id) ON CONFLICT DO NOTHING RETURNING event_id";

/// Refused if the partition is handled beyond the first event already: by another consumer, to which the
/// partition has gone.
const ADVANCE: &str = "INSERT INTO inbox_offsets AS stored \
    (consumer, topic, partition_id, next_offset) VALUES ($1, $2, $3, $5) \
    ON CONFLICT (consumer, topic, partition_id) DO UPDATE SET next_offset = excluded.next_offset \
    WHERE stored.next_offset <= $4";

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

/// Claims these events, and says which were new.
pub(crate) async fn claim(
    tx: &Transaction<'_>,
    consumer: &str,
    ids: &[&str],
) -> Result<HashSet<String>, Error> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let statement = tx.prepare_cached(CLAIM).await?;
    let rows = tx.query(&statement, &[&ids, &consumer]).await?;
    rows.into_iter().map(|row| row.try_get(0)).collect()
}

/// Stores that a stretch is handled; whether this consumer still is the one to do so.
pub(crate) async fn advance(
    tx: &Transaction<'_>,
    consumer: &str,
    stretch: &Stretch,
) -> Result<bool, Error> {
    let statement = tx.prepare_cached(ADVANCE).await?;
    let next = stretch.last + 1;
    let Stretch {
        topic,
        partition,
        first,
        ..
    } = stretch;
    let rows = tx
        .execute(&statement, &[&consumer, topic, partition, first, &next])
        .await?;
    Ok(rows == 1)
}

/// Topic, partition, and the offset from which it is not handled yet.
pub(crate) type Stored = (String, i32, i64);

/// The claims stand, and the commit will be durable when it is answered, as the offset that follows
/// it is: a session may be set to answer earlier.
const INTACT: &str = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL, \
    CASE current_setting('synchronous_commit') WHEN 'off' \
    THEN set_config('synchronous_commit', 'on', true) END";

/// Refuses a transaction in which a handler has hidden a failure: Postgres answers its COMMIT with a
/// ROLLBACK, which is no error.
pub(crate) async fn require_intact(tx: &Transaction<'_>) -> Result<(), Failure> {
    let asked = async {
        let statement = tx.prepare_cached(INTACT).await?;
        tx.query_one(&statement, &[]).await?.try_get(0)
    };
    match asked.await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::transient(
            "the handler has ended the transaction, which is not its own: leave COMMIT and ROLLBACK to the consumer",
        )),
        Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
            Err(Failure::transient(
                "a statement of the handler has failed, and the handler went on: return its error, or use a savepoint",
            ))
        }
        Err(error) => Err(error.into()),
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
                advance(&tx, "c", &handled).await.unwrap(),
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
