//! Rows of an ordinary table: once through it, page by page, without an index.

use tokio_postgres::Client;

use super::round::Extent;
use crate::config::{Retention, StateSpec, WriteBack};
use crate::failure::Failure;
use crate::writeback::error::classify;

/// Pages that one statement looks at.
const SPAN: i64 = 1_024;

/// Which rows of a table are to go.
pub(super) struct Doomed<'a> {
    /// Schema and name, quoted.
    pub table: &'a str,
    pub oid: u32,
    /// They are durable and old.
    pub condition: &'a str,
    pub state: &'a StateSpec,
}

impl Doomed<'_> {
    /// Removes or counts them; calls `progress` with pages looked at, pages in all, and rows.
    pub async fn go_through(
        &self,
        client: &Client,
        extent: Extent,
        retention: &Retention,
        mut progress: impl FnMut(i64, i64, u64),
    ) -> Result<u64, Failure> {
        let pages = self.pages(client).await?;
        let (mut first, mut total) = (0, 0);
        while first < pages {
            let rows = match extent {
                Extent::Count => self.count(client, first).await?,
                Extent::Remove => self.remove(client, first, retention.batch).await?,
            };
            total += rows;
            let is_through = extent == Extent::Count || rows < retention.batch as u64;
            if is_through {
                first += SPAN;
            }
            progress(first.min(pages), pages, total);
            if rows > 0 && extent == Extent::Remove {
                tokio::time::sleep(retention.pause).await;
            }
        }
        Ok(total)
    }

    async fn pages(&self, client: &Client) -> Result<i64, Failure> {
        let sql = "SELECT pg_relation_size($1::oid) / current_setting('block_size')::int8 + 1";
        let row = client.query_one(sql, &[&self.oid]).await;
        Ok(row.map_err(|e| classify("looking at the size", &e))?.get(0))
    }

    async fn count(&self, client: &Client, first: i64) -> Result<u64, Failure> {
        let sql = format!(
            "SELECT count(*) FROM ONLY {} WHERE {RANGE} AND {}",
            self.table, self.condition
        );
        let row = client.query_one(&sql, &[&first, &(first + SPAN)]).await;
        let rows: i64 = row.map_err(|e| classify("counting rows", &e))?.get(0);
        Ok(rows.unsigned_abs())
    }

    /// What somebody else has locked is left for the next round. Where the state is not written the
    /// role need not have the right to lock rows.
    async fn remove(&self, client: &Client, first: i64, batch: usize) -> Result<u64, Failure> {
        let lock = match self.state.mode {
            WriteBack::All | WriteBack::Failures => "FOR UPDATE SKIP LOCKED",
            WriteBack::Off => "",
        };
        let sql = format!(
            "DELETE FROM ONLY {table} WHERE ctid = ANY (ARRAY( \
               SELECT ctid FROM ONLY {table} WHERE {RANGE} AND {} LIMIT {batch} {lock}))",
            self.condition,
            table = self.table,
        );
        let removed = client.execute(&sql, &[&first, &(first + SPAN)]).await;
        removed.map_err(|e| classify("removing rows", &e))
    }
}

/// From page `$1` to before page `$2` (a TID range scan).
const RANGE: &str =
    "ctid >= format('(%s,0)', $1::int8)::tid AND ctid < format('(%s,0)', $2::int8)::tid";
