//! Transactions that events are written in.

#[cfg(feature = "deadpool")]
mod deadpool;
#[cfg(feature = "sqlx")]
mod sqlx;
#[cfg(feature = "tokio-postgres")]
mod tokio_postgres;

use crate::{DatabaseError, rows::Rows};

/// A transaction of one of the drivers:
///
/// | feature | type |
/// |---|---|
/// | `tokio-postgres` (default) | `&tokio_postgres::Transaction` |
/// | `deadpool` | `&deadpool_postgres::Transaction`; the statement is prepared once per connection |
/// | `sqlx` | `&mut sqlx::Transaction<Postgres>` |
///
/// ```no_run
/// # #[cfg(feature = "sqlx")]
/// async fn settle(pool: &sqlx::PgPool, id: &str) -> Result<(), Box<dyn std::error::Error>> {
///     let mut tx = pool.begin().await?;
///     let sql = "UPDATE transfers SET state = 'settled' WHERE id = $1";
///     sqlx::query(sql).bind(id).execute(&mut *tx).await?;
///     let event = outbox::Event::new("transfers.settled").transfer_id(id).payload(&());
///     outbox::emit(&mut tx, event).await?;
///     tx.commit().await?;
///     Ok(())
/// }
/// ```
///
/// A nested one (savepoint) does, too. Connections do not: an event belongs to a transaction. The trait
/// is sealed.
pub trait Transaction: sealed::Sealed + Send {
    /// Runs the statement with the columns of `rows`; returns how many rows were inserted.
    #[doc(hidden)]
    fn insert(
        self,
        statement: &str,
        rows: &Rows,
    ) -> impl Future<Output = Result<u64, DatabaseError>> + Send;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}
