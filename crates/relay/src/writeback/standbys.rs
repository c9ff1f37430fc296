//! Whether standbys have what was written.
//!
//! A failover slot streams nothing that the standbys of `synchronized_standby_slots` have not received,
//! so a promoted one has every event that was published. The states are written behind their events:
//! here the same is asked of them. So the slot, which is confirmed after that, is nowhere confirmed
//! beyond a row whose state a promoted standby lacks.

use std::time::{Duration, Instant};

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::error::classify;
use super::session::answer;
use crate::failure::Failure;

/// Standbys that have not received states after this long are worth telling of.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Where the WAL ends, if standbys count for this slot. Older versions know neither the setting nor the
/// column.
const WRITTEN: &str = "SELECT pg_current_wal_flush_lsn()::text \
     WHERE coalesce(current_setting('synchronized_standby_slots', true), '') <> '' \
       AND EXISTS (SELECT FROM pg_replication_slots s \
         WHERE s.slot_name = $1 AND (to_jsonb(s)->>'failover')::bool)";

/// Those that have not received it, with how far they have come; NULL if there are none. As the server
/// itself asks (`StandbySlotsHaveCaughtup` in `slot.c`): a slot that is missing has received nothing.
const BEHIND: &str = "SELECT string_agg(format('%s (%s)', name, CASE \
       WHEN s.slot_name IS NULL THEN 'there is no such physical slot' \
       WHEN s.restart_lsn IS NULL THEN 'no standby has used it' \
       ELSE 'at ' || s.restart_lsn || CASE WHEN s.active THEN '' ELSE ', not connected' END END), ', ' ORDER BY name) \
     FROM regexp_split_to_table(lower(current_setting('synchronized_standby_slots', true)), '[\\s,\"]+') name \
     LEFT JOIN pg_replication_slots s ON s.slot_name = name AND s.slot_type = 'physical' \
     WHERE name <> '' AND NOT coalesce(s.restart_lsn >= $1::text::pg_lsn, false)";

/// The question, prepared.
pub(super) struct Standbys {
    slot: String,
    written: Statement,
    behind: Statement,
}

impl Standbys {
    pub async fn prepare(client: &Client, slot: &str) -> Result<Self, Failure> {
        let prepare = async |sql: &str| {
            let statement = client.prepare(sql).await;
            statement.map_err(|e| classify("preparing the look at standbys", &e))
        };
        Ok(Self {
            slot: slot.to_owned(),
            written: prepare(WRITTEN).await?,
            behind: prepare(BEHIND).await?,
        })
    }

    /// Where the WAL ends that those that count must have.
    pub async fn end(&self, client: &Client) -> Result<Option<String>, Failure> {
        let row = ask(client, &self.written, &self.slot).await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Waits until they have it.
    pub async fn receive(&self, client: &Client, end: &str) -> Result<(), Failure> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let row = ask(client, &self.behind, end).await?;
            let Some(behind) = row.and_then(|row| row.get::<_, Option<String>>(0)) else {
                return Ok(());
            };
            if began.elapsed() > PATIENCE {
                let message = format!(
                    "the states of rows are written, but not every standby of \
                     synchronized_standby_slots has received the WAL up to {end}: {behind}"
                );
                return Err(Failure::new("write-back-blocked", message));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

async fn ask(client: &Client, statement: &Statement, about: &str) -> Result<Option<Row>, Failure> {
    let about: [&(dyn ToSql + Sync); 1] = [&about];
    answer("looking at standbys", client.query_opt(statement, &about)).await
}
