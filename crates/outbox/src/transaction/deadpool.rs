//! Transactions of deadpool-postgres.

use super::{Transaction, sealed::Sealed};
use crate::{DatabaseError, rows::Rows};

impl Sealed for &deadpool_postgres::Transaction<'_> {}

impl Transaction for &deadpool_postgres::Transaction<'_> {
    /// With the statement prepared once per connection.
    async fn insert(self, statement: &str, rows: &Rows) -> Result<u64, DatabaseError> {
        let prepared = self.prepare_cached(statement).await?;
        let parameters = rows.parameters().map(|(value, _)| value);
        Ok(self.execute(&prepared, &parameters).await?)
    }
}
