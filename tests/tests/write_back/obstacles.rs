//! What holds the write-back up, and that it gets over it.

use std::time::Duration;

use delivery::Identity;
use outboxd::pipeline::Context;
use scenarios::wait;
use testbed::Postgres;
use tokio::test;

use super::bench::{
    OUTBOX, WITHIN, client, context, done, identity, insert, marks, nothing_done, pipeline,
    pipeline_of, sent, server, states, value, write_back, write_back_of,
};

const MOMENT: Duration = Duration::from_millis(1500);

/// Waits until /status tells of this trouble.
async fn tells(context: &Context, code: &str) {
    let told = async || {
        let status = serde_json::to_string(&context.vitals.status())?;
        Ok(status.contains("\"write_back_failure\":{") && status.contains(code))
    };
    wait::until(code, WITHIN, told).await.unwrap();
}

fn is_silent(context: &Context) -> bool {
    let status = serde_json::to_string(&context.vitals.status()).unwrap();
    status.contains("\"write_back_failure\":null")
}

#[test]
async fn a_row_is_awaited_while_its_commit_waits_for_a_synchronous_standby() {
    let postgres = server(OUTBOX);
    let context = context(pipeline(&postgres, ""));
    let mut write_back = write_back(&context);
    let writer = client(&postgres).await;
    writer.batch_execute("BEGIN").await.unwrap();
    let (ids, xid) = insert(&writer, 1).await;
    let names = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'";
    postgres.sql("postgres", names).unwrap();
    postgres.sql("postgres", "SELECT pg_reload_conf()").unwrap();
    let is_set = "SELECT current_setting('synchronous_standby_names')";
    wait::until("the setting", WITHIN, async || {
        Ok(value(&postgres, is_set) == "nobody")
    })
    .await
    .unwrap();
    let before = value(&postgres, "SELECT pg_current_wal_flush_lsn()");
    let committing = tokio::spawn(async move { writer.batch_execute("COMMIT").await });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    wait::until("the commit waits", WITHIN, async || {
        Ok(value(&postgres, waits) == "1")
    })
    .await
    .unwrap();
    let written = format!("SELECT pg_current_wal_flush_lsn() > '{before}'");
    assert_eq!(value(&postgres, &written), "t", "the commit is in the WAL");
    write_back.submit(1, marks(sent(&ids), xid));
    nothing_done(&mut write_back, MOMENT).await;
    postgres
        .sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names")
        .unwrap();
    postgres.sql("postgres", "SELECT pg_reload_conf()").unwrap();
    assert_eq!(done(&mut write_back).await, 1);
    committing.await.unwrap().unwrap();
    assert_eq!(states(&postgres), "SENT=1");
}

#[test]
async fn its_own_commits_do_not_wait_for_a_standby() {
    let postgres = server(OUTBOX);
    let context = context(pipeline(&postgres, ""));
    let mut write_back = write_back(&context);
    let (ids, xid) = insert(&client(&postgres).await, 1).await;
    let names = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'";
    postgres.sql("postgres", names).unwrap();
    postgres.sql("postgres", "SELECT pg_reload_conf()").unwrap();
    write_back.submit(1, marks(sent(&ids), xid));
    assert_eq!(done(&mut write_back).await, 1);
    assert_eq!(states(&postgres), "SENT=1");
}

#[test]
async fn states_are_written_once_the_standbys_that_count_have_them() {
    let postgres = Postgres::builder().version(17).start().unwrap();
    let run = |sql: &str| postgres.sql("postgres", sql).unwrap();
    run(OUTBOX);
    run("SELECT pg_create_physical_replication_slot('standby', true)");
    run("ALTER SYSTEM SET synchronized_standby_slots = '\"standby\"'");
    run("SELECT pg_reload_conf()");
    let context = context(pipeline(&postgres, ""));
    let mut write_back = write_back(&context);
    let client = client(&postgres).await;
    let (ids, xid) = insert(&client, 1).await;
    write_back.submit(1, marks(sent(&ids), xid));
    assert_eq!(done(&mut write_back).await, 1, "no failover slot");

    let slot = &context.pipeline.postgres.slot;
    run(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput', failover => true)"
    ));
    let (ids, xid) = insert(&client, 1).await;
    write_back.submit(2, marks(sent(&ids), xid));
    tells(&context, "write-back-blocked").await;
    tells(&context, ": standby (at 0/").await;
    nothing_done(&mut write_back, MOMENT).await;
    assert_eq!(states(&postgres), "SENT=2", "written here");
    run("SELECT pg_replication_slot_advance('standby', pg_current_wal_lsn())");
    assert_eq!(done(&mut write_back).await, 2);

    run("SELECT pg_drop_replication_slot('standby')");
    let (ids, xid) = insert(&client, 1).await;
    write_back.submit(3, marks(sent(&ids), xid));
    tells(&context, ": standby (there is no such physical slot)").await;
    run("ALTER SYSTEM RESET synchronized_standby_slots");
    run("SELECT pg_reload_conf()");
    assert_eq!(done(&mut write_back).await, 3);
}

#[test]
async fn a_locked_table_holds_up_nothing_but_itself() {
    let postgres = server(OUTBOX);
    let context = context(pipeline(&postgres, ""));
    let mut write_back = write_back(&context);
    let client = client(&postgres).await;
    let (ids, xid) = insert(&client, 3).await;
    client
        .batch_execute("BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    write_back.submit(1, marks(sent(&ids[..1]), xid));
    write_back.submit(2, marks(sent(&ids[1..]), xid));
    tells(&context, "write-back-blocked").await;
    nothing_done(&mut write_back, MOMENT).await;
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(
        (done(&mut write_back).await, done(&mut write_back).await),
        (1, 2)
    );
    assert_eq!(states(&postgres), "SENT=3");
    assert!(is_silent(&context));
}

#[test]
async fn a_read_only_database_is_waited_for() {
    let postgres = server(OUTBOX);
    let (ids, xid) = insert(&client(&postgres).await, 1).await;
    let read_only = "ALTER DATABASE postgres SET default_transaction_read_only = on";
    postgres.sql("postgres", read_only).unwrap();
    let context = context(pipeline(&postgres, ""));
    let mut write_back = write_back(&context);
    write_back.submit(1, marks(sent(&ids), xid));
    tells(&context, "write-back-blocked").await;
    let writable = "BEGIN READ WRITE; \
                    ALTER DATABASE postgres SET default_transaction_read_only = off; COMMIT";
    postgres.sql("postgres", writable).unwrap();
    assert_eq!(done(&mut write_back).await, 1);
    assert_eq!(states(&postgres), "SENT=1");
}

#[test]
async fn a_lost_connection_is_made_again() {
    let postgres = server(OUTBOX);
    let context = context(pipeline(&postgres, ""));
    let mut write_back = write_back(&context);
    let (ids, xid) = insert(&client(&postgres).await, 2).await;
    write_back.submit(1, marks(sent(&ids[..1]), xid));
    done(&mut write_back).await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE application_name = 'outboxd write-back'";
    assert_eq!(value(&postgres, end), "1");
    write_back.submit(2, marks(sent(&ids[1..]), xid));
    assert_eq!(done(&mut write_back).await, 2);
    assert_eq!(states(&postgres), "SENT=2");
    postgres.kill9().unwrap();
    write_back.submit(3, marks(sent(&ids), xid));
    tells(&context, "postgres-").await;
    postgres.start_again().unwrap();
    assert_eq!(done(&mut write_back).await, 3);
}

#[test]
async fn a_table_that_is_altered_underneath_needs_nothing() {
    let postgres = server(OUTBOX);
    let context = context(pipeline(&postgres, ""));
    let mut write_back = write_back(&context);
    let client = client(&postgres).await;
    for (id, change) in [
        "SELECT 1",
        "ALTER TABLE outbox ALTER COLUMN id DROP DEFAULT, ALTER COLUMN id TYPE text, \
         ALTER COLUMN id SET DEFAULT gen_random_uuid()::text",
        "ALTER TABLE outbox DROP COLUMN last_error",
    ]
    .into_iter()
    .enumerate()
    {
        let (ids, xid) = insert(&client, 2).await;
        client.batch_execute(change).await.unwrap();
        write_back.submit(id as u64, marks(sent(&ids), xid));
        assert_eq!(done(&mut write_back).await, id as u64);
    }
    assert_eq!(states(&postgres), "SENT=6");
    assert!(is_silent(&context));
}

#[test]
async fn what_is_refused_is_told_and_tried_again() {
    let postgres = server(OUTBOX);
    let role = "CREATE ROLE relay LOGIN PASSWORD 'outboxd'; GRANT USAGE ON SCHEMA public TO relay; \
                GRANT SELECT (id, state), UPDATE (state, attempts, last_error) ON outbox TO relay";
    postgres.sql("postgres", role).unwrap();
    let context = context(pipeline_of(&postgres.url("relay", "postgres"), ""));
    let mut write_back = write_back(&context);
    let (ids, xid) = insert(&client(&postgres).await, 1).await;
    let obstacles = [
        (
            "REVOKE UPDATE (state) ON outbox FROM relay",
            "permission-denied",
            "GRANT UPDATE (state) ON outbox TO relay",
        ),
        (
            "ALTER TABLE outbox RENAME state TO status",
            "write-back-columns",
            "ALTER TABLE outbox RENAME status TO state",
        ),
        (
            "ALTER TABLE outbox ADD CONSTRAINT pure CHECK (state <> 'SENT')",
            "write-back-refused",
            "ALTER TABLE outbox DROP CONSTRAINT pure",
        ),
        // To who may read the whole row Postgres shows it.
        (
            "GRANT SELECT ON outbox TO relay; \
             ALTER TABLE outbox ADD CONSTRAINT pure CHECK (state <> 'SENT')",
            "write-back-refused",
            "REVOKE SELECT ON outbox FROM relay; GRANT SELECT (id, state) ON outbox TO relay; \
             ALTER TABLE outbox DROP CONSTRAINT pure",
        ),
        (
            "ALTER TABLE outbox ENABLE ROW LEVEL SECURITY",
            "permission-denied",
            "ALTER TABLE outbox DISABLE ROW LEVEL SECURITY",
        ),
    ];
    for (obstacle, code, repair) in obstacles {
        postgres
            .sql("postgres", "UPDATE outbox SET state = 'PENDING'")
            .unwrap();
        postgres.sql("postgres", obstacle).unwrap();
        write_back.submit(1, marks(sent(&ids), xid));
        tells(&context, code).await;
        // Postgres quotes the row that a constraint refuses.
        let status = serde_json::to_string(&context.vitals.status()).unwrap();
        assert!(!status.contains("Failing row"), "{status}");
        nothing_done(&mut write_back, Duration::from_millis(100)).await;
        postgres.sql("postgres", repair).unwrap();
        assert_eq!(done(&mut write_back).await, 1, "{obstacle}");
        assert_eq!(states(&postgres), "SENT=1", "{obstacle}");
        assert!(is_silent(&context));
    }
}

#[test]
async fn another_server_behind_the_same_name_is_not_written_to() {
    let postgres = server(OUTBOX);
    let context = context(pipeline(&postgres, ""));
    let (ids, xid) = insert(&client(&postgres).await, 1).await;
    let other_cluster = Identity {
        system_identifier: "7000000000000000000".to_owned(),
        ..identity(1, &context.pipeline)
    };
    for (other, says) in [
        (identity(2, &context.pipeline), "another timeline"),
        (other_cluster, "another cluster"),
    ] {
        let mut write_back = write_back_of(other, &context);
        write_back.submit(1, marks(sent(&ids), xid));
        tells(&context, says).await;
        nothing_done(&mut write_back, Duration::from_millis(100)).await;
        drop(write_back);
        assert!(is_silent(&context), "of a session that is over");
        assert_eq!(states(&postgres), "PENDING=1");
    }
}
