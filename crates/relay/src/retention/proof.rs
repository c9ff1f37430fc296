//! What proves that a row is durable in Kafka.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use delivery::{Checkpoint, Kind};
use pgoutput::Lsn;
use tokio_postgres::Client;

use super::round::Order;

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

/// What the slot's stream proves.
pub(super) struct Streamed {
    /// Rows that were written by older transactions were committed before a point of the WAL which
    /// the relay has confirmed since.
    oldest_running: u32,
    /// Tables that have no unpublished row from before the stream.
    whole_tables: BTreeSet<String>,
}

/// A condition on a row of a table, as SQL.
pub(super) fn of(
    table: &str,
    state: &StateSpec,
    streamed: Option<&Streamed>,
    order: Order,
) -> Result<String, Failure> {
    let column = quote(&state.state);
    let streamed = match (state.mode, streamed) {
        (WriteBack::Failures | WriteBack::Off, Some(streamed)) => streamed,
        (WriteBack::All, _) | (_, None) => return Ok(format!("{column} = 'SENT'")),
    };
    if !order.accepts_earlier_rows && !streamed.whole_tables.contains(table) {
        let message = format!(
            "table {table} may hold rows from before the stream of the slot: they are not published, \
             and without a state nothing tells them from the others"
        );
        return Err(Failure::new("retention-earlier-rows", message));
    }
    let is_streamed = older_than(streamed.oldest_running);
    Ok(match state.mode {
        WriteBack::Failures => format!("{column} IS DISTINCT FROM 'FAILED' AND {is_streamed}"),
        WriteBack::All | WriteBack::Off => is_streamed,
    })
}

/// A message is put into the WAL behind everything that a snapshot shows. Once the relay that holds
/// the slot all the while has confirmed it, what the snapshot shows and the stream began with is
/// published. A relay that only holds the slot, because it has found that somebody else moved it,
/// confirms nothing.
///
/// Nothing of a running transaction is shown, so rows count that were written by transactions older
/// than the oldest one running. A version of a row that is newer waits for a later round.
pub(super) async fn streamed(
    client: &Client,
    pipeline: &Pipeline,
    recorded: impl Future<Output = Result<Option<Checkpoint>, Failure>>,
) -> Result<Streamed, Failure> {
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
    let checkpoint = recorded.await?.filter(|c| covers(c, pipeline, &lsn));
    let Some(checkpoint) = checkpoint else {
        let what = format!("the checkpoint does not say that slot {slot:?} has come to {lsn}");
        return Err(unproven(&what));
    };
    Ok(Streamed {
        oldest_running: snapshot.oldest_running(),
        whole_tables: checkpoint.whole_tables,
    })
}

/// Whether a checkpoint is of the stream that was confirmed, or of a slot that was made since. One
/// is recorded before the slot moves. A feed may be left whose rows are published and whose tables
/// have been told.
fn covers(checkpoint: &Checkpoint, pipeline: &Pipeline, lsn: &str) -> bool {
    let Checkpoint { identity, .. } = checkpoint;
    let is_ours =
        identity.slot == pipeline.slot_name() && identity.database == pipeline.postgres.database;
    let is_stream = matches!(checkpoint.kind, Kind::Genesis | Kind::Progress);
    let reaches = lsn
        .parse()
        .is_ok_and(|lsn: Lsn| checkpoint.confirmed_up_to >= lsn);
    let is_fed = checkpoint.feed.as_ref().is_none_or(|f| f.is_complete());
    is_ours && is_stream && reaches && is_fed
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
