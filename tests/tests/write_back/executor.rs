//! What the write-back writes.

use std::time::Instant;

use delivery::Outcome;
use outboxd::pipeline::Sharing;
use outboxd::writeback::WriteBack;
use tokio::test;

use super::bench::{
    FAILED, OUTBOX, client, context, done, insert, marks, pipeline, sent, server, states, value,
    write_back,
};

#[test]
async fn outcomes_are_written_in_order_and_only_into_pending_rows() {
    let postgres = server(OUTBOX);
    let context = context(pipeline(&postgres, ""));
    let mut write_back = write_back(&context);
    let client = client(&postgres).await;
    let (ids, xid) = insert(&client, 5).await;
    client
        .execute(
            "UPDATE outbox SET state = 'FAILED' WHERE id::text = $1",
            &[&ids[4]],
        )
        .await
        .unwrap();
    write_back.submit(7, marks(sent(&ids[..2]), xid));
    write_back.submit(
        8,
        marks([(&*ids[2], FAILED), (&*ids[4], Outcome::Sent)], xid),
    );
    assert_eq!(write_back.pending_rows(), 4);
    assert_eq!(
        (done(&mut write_back).await, done(&mut write_back).await),
        (7, 8)
    );
    assert_eq!(write_back.pending_rows(), 0);
    assert_eq!(states(&postgres), "FAILED=2 PENDING=1 SENT=2");
    let failed = "SELECT attempts || ' ' || last_error FROM outbox WHERE last_error IS NOT NULL";
    assert_eq!(value(&postgres, failed), "6 no such topic");
    let attempts =
        "SELECT string_agg(DISTINCT attempts::text, '') FROM outbox WHERE state = 'SENT'";
    assert_eq!(value(&postgres, attempts), "1");
}

#[test]
async fn many_rows_go_in_bounded_statements_and_stay_on_their_pages() {
    let postgres = server(OUTBOX);
    let context = context(pipeline(&postgres, ""));
    let mut write_back = write_back(&context);
    let client = client(&postgres).await;
    for id in 0..4 {
        let (ids, xid) = insert(&client, 6_000).await;
        write_back.submit(id, marks(sent(&ids), xid));
    }
    for id in 0..4 {
        assert_eq!(done(&mut write_back).await, id);
    }
    assert_eq!(states(&postgres), "SENT=24000");
    // Statistics come when the session that made them is idle for a moment, or ends.
    drop(write_back);
    let hot = "SELECT n_tup_upd >= 24000 AND n_tup_hot_upd > n_tup_upd * 0.95 \
               FROM pg_stat_user_tables WHERE relname = 'outbox'";
    scenarios::wait::until(
        "updates stay on their pages",
        super::bench::WITHIN,
        async || Ok(value(&postgres, hot) == "t"),
    )
    .await
    .unwrap();
}

#[test]
async fn pipelines_that_share_a_process_write_back_less_often_until_the_session_ends() {
    let postgres = server(OUTBOX);
    let mut context = context(pipeline(&postgres, ""));
    context.sharing = Sharing(50);
    let pace = context.sharing.write_back_pace();
    let mut write_back = write_back(&context);
    let (ids, xid) = insert(&client(&postgres).await, 22).await;
    let mut rows = (0..).zip(&ids);
    let mut submit = |write_back: &mut WriteBack| {
        let (id, row) = rows.next().unwrap();
        write_back.submit(id, marks([(&**row, Outcome::Sent)], xid));
    };
    let began = Instant::now();
    for _ in 0..2 {
        submit(&mut write_back);
        done(&mut write_back).await;
    }
    assert!(began.elapsed() >= pace);
    write_back.hurry();
    let began = Instant::now();
    for _ in 0..20 {
        submit(&mut write_back);
        done(&mut write_back).await;
    }
    assert!(began.elapsed() < pace * 10, "{:?}", began.elapsed());
    assert_eq!(states(&postgres), "SENT=22");
}

#[test]
async fn only_failures_are_written_where_only_those_are_wanted() {
    let postgres = server(OUTBOX);
    let toml = "[[pipelines.tables]]\nwrite_back = 'failures'";
    let context = context(pipeline(&postgres, toml));
    let mut write_back = write_back(&context);
    let client = client(&postgres).await;
    let (ids, xid) = insert(&client, 3).await;
    write_back.submit(
        1,
        marks([(&*ids[0], FAILED), (&*ids[1], Outcome::Sent)], xid),
    );
    assert_eq!(done(&mut write_back).await, 1);
    assert_eq!(states(&postgres), "FAILED=1 PENDING=2");
    write_back.submit(2, marks(fed(&ids), xid));
    assert_eq!(done(&mut write_back).await, 2);
    assert_eq!(states(&postgres), "PENDING=2 SENT=1");
}

#[test]
async fn what_a_feed_published_is_sent_though_it_failed_before() {
    let postgres = server(OUTBOX);
    let context = context(pipeline(&postgres, ""));
    let mut write_back = write_back(&context);
    let (ids, xid) = insert(&client(&postgres).await, 2).await;
    write_back.submit(1, marks([(&*ids[0], FAILED)], xid));
    assert_eq!(done(&mut write_back).await, 1);
    write_back.submit(2, marks(fed(&ids), xid));
    assert_eq!(done(&mut write_back).await, 2);
    assert_eq!(states(&postgres), "SENT=2");
    let error = "SELECT count(*) FROM outbox WHERE last_error IS NOT NULL";
    assert_eq!(value(&postgres, error), "0");
}

fn fed<'a>(ids: &'a [String]) -> impl Iterator<Item = (&'a str, Outcome<'a>)> {
    ids.iter().map(|id| (id.as_str(), Outcome::Fed))
}

#[test]
async fn nothing_is_written_and_nobody_connects_where_it_is_off() {
    let postgres = server(OUTBOX);
    let toml = "[[pipelines.tables]]\nwrite_back = 'off'";
    let context = context(pipeline(&postgres, toml));
    let mut write_back = write_back(&context);
    let client = client(&postgres).await;
    let (ids, xid) = insert(&client, 1).await;
    write_back.submit(1, marks([(&*ids[0], FAILED)], xid));
    assert_eq!(done(&mut write_back).await, 1);
    assert_eq!(states(&postgres), "PENDING=1");
    let sessions =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%write-back'";
    assert_eq!(value(&postgres, sessions), "0");
}

#[test]
async fn ids_of_every_type_and_columns_of_any_name_are_found() {
    let ids = [
        "11111111-1111-1111-1111-111111111111",
        "-7",
        "a'b",
        "x",
        "ok",
        "5",
    ];
    let types = ["uuid", "bigint", "text", "character(3)", "mood", "positive"];
    let postgres = server(
        "CREATE TYPE mood AS ENUM ('ok'); CREATE DOMAIN positive AS int CHECK (VALUE > 0); \
         CREATE TYPE progress AS ENUM ('PENDING', 'SENT', 'FAILED')",
    );
    let toml = "[[pipelines.tables]]\nschema = 'Odd \"one\"'\ntable = 'Out box'\nservice = 'odd'\n\
                [pipelines.tables.columns]\nid = 'Event Id'\nstate = 'Progress'\n\
                attempts = ''\nlast_error = 'why'";
    for (id, id_type) in ids.into_iter().zip(types) {
        let table = format!(
            "DROP SCHEMA IF EXISTS \"Odd \"\"one\"\"\" CASCADE; CREATE SCHEMA \"Odd \"\"one\"\"\"; \
             CREATE TABLE \"Odd \"\"one\"\"\".\"Out box\" (\"Event Id\" {id_type} PRIMARY KEY, \
               \"Progress\" progress NOT NULL DEFAULT 'PENDING', attempts int, why varchar(20)); \
             INSERT INTO \"Odd \"\"one\"\"\".\"Out box\" VALUES ('{}')",
            id.replace('\'', "''")
        );
        postgres.sql("postgres", &table).unwrap();
        let xid = value(
            &postgres,
            "SELECT xmin::text FROM \"Odd \"\"one\"\"\".\"Out box\"",
        );
        let context = context(pipeline(&postgres, toml));
        let mut write_back = write_back(&context);
        write_back.submit(1, marks([(id, FAILED)], xid.parse().unwrap()));
        done(&mut write_back).await;
        let row = "SELECT concat_ws(' ', \"Progress\", attempts, why) FROM \"Odd \"\"one\"\"\".\"Out box\"";
        assert_eq!(value(&postgres, row), "FAILED no such topic", "{id_type}");
    }
}

#[test]
async fn rows_that_are_gone_are_done() {
    let postgres = server(OUTBOX);
    let context = context(pipeline(&postgres, ""));
    let mut write_back = write_back(&context);
    let client = client(&postgres).await;
    let (ids, xid) = insert(&client, 2).await;
    client.batch_execute("DELETE FROM outbox").await.unwrap();
    write_back.submit(1, marks(sent(&ids), xid));
    assert_eq!(done(&mut write_back).await, 1);
    let fleeting = "WITH gone AS (SELECT gen_random_uuid() AS id) SELECT id::text FROM gone";
    let id = value(&postgres, fleeting);
    let both = format!(
        "BEGIN; INSERT INTO outbox (id, event_type, payload) VALUES ('{id}', 'a', '{{}}'); \
         DELETE FROM outbox; COMMIT"
    );
    client.batch_execute(&both).await.unwrap();
    let xid: u32 = value(&postgres, "SELECT pg_snapshot_xmax(pg_current_snapshot())")
        .parse()
        .unwrap();
    write_back.submit(2, marks([(&*id, Outcome::Sent)], xid - 1));
    assert_eq!(done(&mut write_back).await, 2);
    assert_eq!(states(&postgres), "");
}

#[test]
async fn rows_of_a_partitioned_table_are_found() {
    let postgres = server(
        "CREATE TABLE outbox (id uuid DEFAULT gen_random_uuid(), event_type text, payload jsonb, \
           day int NOT NULL DEFAULT 1, state text NOT NULL DEFAULT 'PENDING') PARTITION BY RANGE (day); \
         CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES FROM (1) TO (2)",
    );
    let context = context(pipeline(&postgres, ""));
    let mut write_back = write_back(&context);
    let (ids, xid) = insert(&client(&postgres).await, 3).await;
    write_back.submit(1, marks(sent(&ids), xid));
    done(&mut write_back).await;
    assert_eq!(states(&postgres), "SENT=3");
}
