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
