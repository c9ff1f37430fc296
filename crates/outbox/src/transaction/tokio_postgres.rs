//! Transactions of tokio-postgres.

use tokio_postgres::types::{ToSql, Type};

use super::{Transaction, sealed::Sealed};
use crate::{DatabaseError, rows::Rows};

impl Rows {
    /// As parameters of the statement.
    pub(super) fn parameters(&self) -> [(&(dyn ToSql + Sync), Type); 5] {
        [
            (&self.ids, Type::UUID_ARRAY),
            (&self.types, Type::TEXT_ARRAY),
            (&self.transfer_ids, Type::TEXT_ARRAY),
            (&self.payloads, Type::TEXT_ARRAY),
            (&self.headers, Type::TEXT_ARRAY),
        ]
    }
}

impl Sealed for &tokio_postgres::Transaction<'_> {}

impl Transaction for &tokio_postgres::Transaction<'_> {
    /// In one round trip, as the types are known.
    async fn insert(self, statement: &str, rows: &Rows) -> Result<u64, DatabaseError> {
        let inserted = self.execute_typed(statement, &rows.parameters()).await;
        inserted.map_err(Into::into)
    }
}
