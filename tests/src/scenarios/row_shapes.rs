//! Every way to write rows that has ever confused a relay, with the relay killed in between.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::Client;

use super::misconfiguration::run_says;
use super::publication_replaced::accept;
use crate::oracle::{self, Verdict};
use crate::reader::Reader;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, TOPICS};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "row-shapes",
    about: "COPY, interleaved, savepoints, two-phase commit, TOAST, TRUNCATE: exact over ten kills, on 15, 17, 18",
    group: Group::Proof,
    within: Duration::from_secs(400),
    run: |figures| Box::pin(run(figures)),
};

const KILLS: u32 = 10;
/// More than a page holds, so that the payload is stored out of line.
const TOASTED_BYTES: usize = 1_200_000;

async fn run(figures: &mut Figures) -> Result<()> {
    for version in [15, 17, 18] {
        let verdict = on(version).await;
        let verdict = verdict.with_context(|| format!("on {version}"))?;
        figures.add(&format!("rows_on_{version}"), verdict.rows);
    }
    Ok(())
}

async fn on(version: u32) -> Result<Verdict> {
    let stage = Stage::builder()
        .patient()
        .postgres(|p| p.version(version))
        .kafka(|k| k.setting("message.max.bytes", "4000000"))
        .start()
        .await?;
    stage.postgres.sql(DATABASE, SHADOW)?;
    let altered = stage.launch(&[])?;
    run_says(&altered, "publication-changed", "stopped").await?;
    accept(&stage, altered).await?.stop().await?;
    stage.value("SELECT pg_create_logical_replication_slot('neighbours', 'test_decoding')")?;
    let clients = [stage.client().await?, stage.client().await?];
    for round in 0..KILLS {
        let relay = launch(&stage)?;
        shapes(&clients, round).await?;
        // Half of them die as they start, the others while they publish.
        if round.is_multiple_of(2) {
            relay.ready().await?;
        }
        shapes(&clients, round).await?;
        relay.program().kill9();
    }
    let relay = launch(&stage)?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    check_values(&stage)?;
    ensure!(
        stage.value(NEIGHBOURS)? != "0",
        "no commit ends where the next change begins"
    );
    // What was written, whatever became of it in the table.
    stage.postgres.sql(DATABASE, REFILL)?;
    oracle::require_exact(&stage).await
}

/// Remembers every committed row, for rows vanish from the table here. Changes that are no events
/// are in the stream, too, and counted in positions.
const SHADOW: &str = "CREATE TABLE written (id uuid); \
    CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS \
      $$ BEGIN INSERT INTO written VALUES (NEW.id); RETURN NULL; END $$; \
    CREATE TRIGGER remember AFTER INSERT ON outbox \
      FOR EACH ROW EXECUTE FUNCTION remember(); \
    ALTER PUBLICATION outboxd SET (publish = 'insert, update, delete, truncate')";
const REFILL: &str = "DROP TRIGGER remember ON outbox; TRUNCATE outbox; \
    INSERT INTO outbox (id, event_type, payload) SELECT id, 'written', '{}' FROM written";

/// Transactions whose first change begins where another's commit ends.
const NEIGHBOURS: &str = "WITH changes AS ( \
      SELECT lsn, xid, data FROM pg_logical_slot_peek_changes('neighbours', NULL, NULL)) \
    SELECT count(*) FROM changes a JOIN changes b ON a.lsn = b.lsn AND a.xid <> b.xid \
    WHERE a.data LIKE 'COMMIT%' AND b.data LIKE 'BEGIN%'";

fn launch(stage: &Stage) -> Result<Relay> {
    // Small windows: each transaction is split at several places.
    let env = [
        ("OUTBOXD_EVENT_MAX_BYTES", "3MB"),
        ("OUTBOXD_KAFKA_PROPERTIES_MESSAGE_MAX_BYTES", "4000000"),
        ("BATCH_SIZE", "7"),
    ];
    Relay::launch(&stage.flags(), &env, stage.folder())
}

/// Nothing that was rolled back, and large payloads whole.
fn check_values(stage: &Stage) -> Result<()> {
    let (mut doomed, mut toasted) = (0, 0);
    Reader::open(&stage.kafka.bootstrap(), &TOPICS)?.drain(|seen| {
        doomed += u32::from(seen.value.contains("doomed"));
        toasted += u32::from(seen.value.len() > TOASTED_BYTES);
    })?;
    ensure!(doomed == 0, "{doomed} events that were rolled back");
    ensure!(toasted == 2 * KILLS, "{toasted} payloads came whole");
    Ok(())
}

/// Writes once in every way.
async fn shapes(clients: &[Client; 2], round: u32) -> Result<()> {
    let [one, other] = clients;
    copy(one).await.context("COPY")?;
    multi_row(one).await.context("multi-row")?;
    interleaved(one, other).await.context("interleaved")?;
    two_phase(one, other, round).await.context("two-phase")?;
    toasted(one).await.context("TOAST")?;
    for sql in [SAVEPOINTS, INSERT_AND_DELETE, UPDATE, DELETE] {
        one.batch_execute(sql).await.context(sql)?;
    }
    if round.is_multiple_of(3) {
        one.batch_execute(TRUNCATE).await.context("TRUNCATE")?;
    }
    Ok(())
}

async fn copy(client: &Client) -> Result<()> {
    let sql = "COPY outbox (event_type, transfer_id, payload) FROM STDIN";
    let mut sink = std::pin::pin!(client.copy_in::<_, Bytes>(sql).await?);
    for i in 0..40 {
        let line = format!("ledger.posted\tc-{}\t{{\"shape\": \"copy\"}}\n", i % 3);
        sink.send(Bytes::from(line)).await?;
    }
    sink.finish().await?;
    Ok(())
}

async fn multi_row(client: &Client) -> Result<()> {
    for shape in ["kept", "pruned"] {
        let sql = format!(
            "INSERT INTO outbox (event_type, transfer_id, payload) \
             SELECT 'ledger.posted', 'm-' || i % 3, '{{\"shape\": \"{shape}\"}}' \
             FROM generate_series(1, 25) i"
        );
        client.batch_execute(&sql).await?;
    }
    Ok(())
}

/// A long transaction around short ones: its first change lies before theirs, its commit after.
/// Nothing is written between a commit and the first change of the next transaction, so the end of
/// the one is the beginning of the other.
async fn interleaved(long: &Client, short: &Client) -> Result<()> {
    let event = |shape: &str| {
        format!(
            "INSERT INTO outbox (event_type, transfer_id, payload) \
             VALUES ('recon.matched', '{shape}', '{{\"shape\": \"{shape}\"}}')"
        )
    };
    long.batch_execute("BEGIN").await?;
    for _ in 0..5 {
        long.batch_execute(&event("long")).await?;
        short.batch_execute(&event("short")).await?;
        let doomed = format!("BEGIN; {}; ROLLBACK", event("doomed"));
        short.batch_execute(&doomed).await?;
        short.batch_execute(&event("short")).await?;
    }
    long.batch_execute("COMMIT").await?;
    Ok(())
}

const SAVEPOINTS: &str = "BEGIN; \
    INSERT INTO outbox (event_type, payload) VALUES ('transfers.settled', '{\"shape\": \"kept\"}'); \
    SAVEPOINT a; \
    INSERT INTO outbox (event_type, payload) VALUES ('transfers.settled', '{\"shape\": \"doomed\"}'); \
    SAVEPOINT b; \
    INSERT INTO outbox (event_type, payload) VALUES ('transfers.settled', '{\"shape\": \"doomed\"}'); \
    RELEASE b; ROLLBACK TO a; \
    INSERT INTO outbox (event_type, payload) VALUES ('transfers.settled', '{\"shape\": \"kept\"}'); \
    COMMIT";

const INSERT_AND_DELETE: &str = "BEGIN; \
    INSERT INTO outbox (event_type, payload) \
      SELECT 'transfers.settled', '{\"shape\": \"fleeting\"}' FROM generate_series(1, 2); \
    DELETE FROM outbox WHERE payload->>'shape' = 'fleeting'; \
    COMMIT";

/// Prepared on one session, others commit in between, and another session decides.
async fn two_phase(one: &Client, other: &Client, round: u32) -> Result<()> {
    let insert = |shape: &str| {
        format!(
            "INSERT INTO outbox (event_type, transfer_id, payload) \
             VALUES ('compliance.flagged', 'p', '{{\"shape\": \"{shape}\"}}')"
        )
    };
    for (name, shape) in [("kept", "prepared"), ("dropped", "doomed")] {
        let prepare = format!(
            "BEGIN; {}; PREPARE TRANSACTION '{name}-{round}'",
            insert(shape)
        );
        one.batch_execute(&prepare).await?;
        other.batch_execute(&insert("between")).await?;
    }
    other
        .batch_execute(&format!("ROLLBACK PREPARED 'dropped-{round}'"))
        .await?;
    other
        .batch_execute(&format!("COMMIT PREPARED 'kept-{round}'"))
        .await?;
    Ok(())
}

/// Random digits, or the server would compress them into the page.
async fn toasted(client: &Client) -> Result<()> {
    let digits: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(TOASTED_BYTES)
        .collect();
    let sql = "INSERT INTO outbox (event_type, transfer_id, payload) \
               VALUES ('ledger.posted', 'large', jsonb_build_object('digits', $1::text))";
    client.execute(sql, &[&digits]).await?;
    Ok(())
}

const UPDATE: &str = "UPDATE outbox SET state = 'SENT' WHERE state = 'PENDING'";
const DELETE: &str = "DELETE FROM outbox WHERE payload->>'shape' = 'pruned'";
const TRUNCATE: &str = "BEGIN; \
    INSERT INTO outbox (event_type, payload) VALUES ('transfers.settled', '{\"shape\": \"truncated\"}'); \
    TRUNCATE outbox; \
    INSERT INTO outbox (event_type, payload) VALUES ('transfers.settled', '{\"shape\": \"after\"}'); \
    COMMIT";
