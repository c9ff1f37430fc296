//! Transactions of sqlx.

use sqlx::Postgres;

use super::{Transaction, sealed::Sealed};
use crate::{DatabaseError, rows::Rows};

impl Sealed for &mut sqlx::Transaction<'_, Postgres> {}

impl Transaction for &mut sqlx::Transaction<'_, Postgres> {
    async fn insert(self, statement: &str, rows: &Rows) -> Result<u64, DatabaseError> {
        let query = sqlx::query(statement)
            .bind(&rows.ids)
            .bind(&rows.types)
            .bind(&rows.transfer_ids)
            .bind(&rows.payloads)
            .bind(&rows.headers);
        Ok(query.execute(&mut **self).await?.rows_affected())
    }
}
