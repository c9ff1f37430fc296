//! What proves that a row is durable in Kafka.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::config::{Pipeline, StateSpec, WriteBack};
use crate::failure::Failure;
use crate::sql::quote;
use crate::writeback::error::classify;
use crate::writeback::snapshot::Snapshot;

/// How long the relay may take to confirm a point of the WAL. It does so about once a second.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(250);

/// Numbers of transactions wrap around.
const XIDS: u64 = 1 << 32;

/// A condition on a row, as SQL.
pub(super) async fn of(
    client: &Client,
    pipeline: &Pipeline,
    state: &StateSpec,
) -> Result<String, Failure> {
    let column = quote(&state.state);
    match state.mode {
        WriteBack::All => Ok(format!("{column} = 'SENT'")),
        WriteBack::Failures => {
            let confirmed = confirmed(client, pipeline).await?;
            Ok(format!(
                "{column} IS DISTINCT FROM 'FAILED' AND {confirmed}"
            ))
        }
        WriteBack::Off => confirmed(client, pipeline).await,
    }
}

/// A message is put into the WAL behind everything that a snapshot shows. Once the relay that holds
/// the slot all the while has confirmed it, what the snapshot shows is published. A relay that only
/// holds the slot, because it has found that somebody else moved it, confirms nothing.
///
/// Nothing of a running transaction is shown, so rows count that were written by transactions older
/// than the oldest one running. A version of a row that is newer waits for a later round.
async fn confirmed(client: &Client, pipeline: &Pipeline) -> Result<String, Failure> {
    let slot = pipeline.slot_name();
    let Some((pid, _)) = holder(client, &slot, "0/0").await? else {
        return Err(unproven(&format!("no relay reads from slot {slot:?}")));
    };
    let mark = "SELECT pg_current_snapshot()::text, \
                pg_logical_emit_message(false, 'outboxd.retention', '')::text";
    let row = client.query_one(mark, &[]).await;
    let row = row.map_err(|e| classify("marking a point of the WAL", &e))?;
    let (snapshot, lsn): (String, String) = (row.get(0), row.get(1));
    let snapshot: Snapshot = snapshot.parse()?;
    let began = Instant::now();
    loop {
        match holder(client, &slot, &lsn).await? {
            Some((now, true)) if now == pid => break,
            Some((now, _)) if now == pid && began.elapsed() < PATIENCE => {}
            Some(_) | None => {
                let what = format!("slot {slot:?} has not been confirmed up to {lsn}");
                return Err(unproven(&what));
            }
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(older_than(snapshot.oldest_running()))
}

fn unproven(why: &str) -> Failure {
    Failure::new("retention-unproven", why)
}

/// Whose number comes before `xid`.
fn older_than(xid: u32) -> String {
    format!(
        "mod(xmin::text::int8 - {xid} + {XIDS}, {XIDS}) >= {}",
        XIDS / 2
    )
}

/// Who reads from the slot, and whether it is confirmed up to `lsn`.
async fn holder(client: &Client, slot: &str, lsn: &str) -> Result<Option<(i32, bool)>, Failure> {
    let sql = "SELECT active_pid, coalesce(confirmed_flush_lsn >= $2::text::pg_lsn, false) \
               FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL \
               AND database = current_database()";
    let rows = client.query(sql, &[&slot, &lsn]).await;
    let rows = rows.map_err(|e| classify("looking at the slot", &e))?;
    Ok(rows.first().map(|row| (row.get(0), row.get(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_is_meant_around_the_circle_of_numbers() {
        assert_eq!(
            older_than(7),
            "mod(xmin::text::int8 - 7 + 4294967296, 4294967296) >= 2147483648"
        );
    }
}
