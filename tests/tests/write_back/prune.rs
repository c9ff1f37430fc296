//! What retention removes, and what it never does.

use std::process::{Command, Output};
use std::time::Duration;

use delivery::{CHECKPOINT_FORMAT, Checkpoint, Fed, FeedProgress, Fingerprint, Identity, Kind};
use outboxd::failure::Failure;
use outboxd::retention::{self, Extent, Order, TableReport};
use outboxd::writeback::Server;
use pgoutput::Lsn;
use scenarios::{stage, wait};
use testbed::{Postgres, Program};
use tokio::test;

use super::bench::{
    OUTBOX, WITHIN, client, context, identity, pipeline, pipeline_of, server, states, value,
};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
/// So many old and so many young rows in every state.
const FILL: &str = "INSERT INTO outbox (event_type, payload, state, created_at) \
    SELECT 'a.b', '{}', s, now() - days * interval '1 day' \
    FROM unnest(ARRAY['PENDING', 'SENT', 'FAILED']) s, unnest(ARRAY[1, 30]) days, \
      generate_series(1, 3000)";

async fn prune(
    postgres: &Postgres,
    toml: &str,
    extent: Extent,
) -> Result<Vec<TableReport>, Failure> {
    prune_recorded(postgres, toml, order(extent), None).await
}

async fn prune_recorded(
    postgres: &Postgres,
    toml: &str,
    order: Order,
    recorded: Option<Checkpoint>,
) -> Result<Vec<TableReport>, Failure> {
    let pipeline = pipeline(postgres, toml);
    let client = client(postgres).await;
    let recorded = std::future::ready(Ok(recorded));
    retention::run(&client, &pipeline, order, recorded, |_| ()).await
}

fn order(extent: Extent) -> Order {
    Order {
        period: WEEK,
        extent,
        accepts_earlier_rows: false,
    }
}

fn ages(postgres: &Postgres) -> String {
    value(
        postgres,
        "SELECT string_agg(k || ':' || n, ' ') FROM (SELECT state || \
           CASE WHEN created_at < now() - interval '7 days' THEN '-old' ELSE '' END k, count(*) n \
           FROM outbox GROUP BY 1 ORDER BY 1) s",
    )
}

#[test]
async fn old_rows_that_are_sent_go_and_no_other() {
    let postgres = server(OUTBOX);
    postgres.sql("postgres", FILL).unwrap();
    let toml = "retention.batch = 700\nretention.pause = '0s'";
    let counted = prune(&postgres, toml, Extent::Count).await.unwrap();
    assert_eq!(counted[0].rows, 3000);
    assert_eq!(states(&postgres), "FAILED=6000 PENDING=6000 SENT=6000");
    let removed = prune(&postgres, toml, Extent::Remove).await.unwrap();
    assert_eq!(
        (removed[0].rows, &*removed[0].table),
        (3000, "public.outbox")
    );
    let left = "FAILED:3000 FAILED-old:3000 PENDING:3000 PENDING-old:3000 SENT:3000";
    assert_eq!(ages(&postgres), left);
    assert_eq!(
        prune(&postgres, toml, Extent::Remove).await.unwrap()[0].rows,
        0
    );
}

#[test]
async fn locked_rows_are_left_for_later() {
    let postgres = server(OUTBOX);
    postgres.sql("postgres", FILL).unwrap();
    let holder = client(&postgres).await;
    let lock =
        "BEGIN; SELECT FROM outbox WHERE state = 'SENT' ORDER BY created_at LIMIT 10 FOR UPDATE";
    holder.batch_execute(lock).await.unwrap();
    assert_eq!(
        prune(&postgres, "", Extent::Remove).await.unwrap()[0].rows,
        2990
    );
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(
        prune(&postgres, "", Extent::Remove).await.unwrap()[0].rows,
        10
    );
}

#[test]
async fn whole_partitions_go_once_all_of_their_rows_are_sent_and_old() {
    let postgres = server(
        "CREATE TABLE outbox (id uuid DEFAULT gen_random_uuid(), event_type text, payload jsonb, \
           created_at timestamptz NOT NULL, state text NOT NULL DEFAULT 'PENDING') \
           PARTITION BY RANGE (created_at); \
         CREATE TABLE year_1 PARTITION OF outbox FOR VALUES FROM ('2001-01-01') TO ('2002-01-01'); \
         CREATE TABLE year_2 PARTITION OF outbox FOR VALUES FROM ('2002-01-01') TO ('2003-01-01'); \
         CREATE TABLE year_3 PARTITION OF outbox FOR VALUES FROM ('2003-01-01') TO ('2004-01-01'); \
         CREATE TABLE empty PARTITION OF outbox FOR VALUES FROM ('2004-01-01') TO ('2005-01-01'); \
         CREATE TABLE present PARTITION OF outbox FOR VALUES FROM ('2005-01-01') TO ('9999-01-01'); \
         INSERT INTO outbox (created_at, state) VALUES ('2001-05-05', 'SENT'), ('2001-06-06', 'SENT'), \
           ('2002-05-05', 'SENT'), ('2002-06-06', 'PENDING'), ('2003-06-06', 'FAILED'), \
           ('2005-06-06', 'SENT'), (now(), 'SENT')",
    );
    for extent in [Extent::Count, Extent::Remove] {
        let report = prune(&postgres, "", extent).await.unwrap().remove(0);
        assert_eq!(report.partitions, ["public.year_1"]);
        let kept: Vec<_> = report
            .kept
            .iter()
            .map(|k| (&*k.partition, k.rows))
            .collect();
        assert_eq!(kept, [("public.year_2", 1), ("public.year_3", 1)]);
    }
    let left = "SELECT string_agg(relid::text, ' ' ORDER BY relid::text) \
                FROM pg_partition_tree('outbox') WHERE isleaf";
    assert_eq!(value(&postgres, left), "empty present year_2 year_3");
    assert_eq!(
        value(&postgres, "SELECT to_regclass('year_1') IS NULL"),
        "t"
    );
    assert_eq!(states(&postgres), "FAILED=1 PENDING=1 SENT=3");
}

#[test]
async fn a_partition_that_can_not_be_locked_stays_whole() {
    let postgres = server(
        "CREATE TABLE outbox (id int, created_at timestamptz, state text) PARTITION BY RANGE (created_at); \
         CREATE TABLE year_1 PARTITION OF outbox FOR VALUES FROM ('2001-01-01') TO ('2002-01-01'); \
         INSERT INTO outbox VALUES (1, '2001-05-05', 'SENT')",
    );
    let holder = client(&postgres).await;
    holder
        .batch_execute("BEGIN; SELECT FROM outbox")
        .await
        .unwrap();
    let pruner = client(&postgres).await;
    pruner
        .batch_execute("SET lock_timeout = '100ms'")
        .await
        .unwrap();
    let pipeline = pipeline(&postgres, "");
    let run = async || {
        let recorded = std::future::ready(Ok(None));
        retention::run(&pruner, &pipeline, order(Extent::Remove), recorded, |_| ()).await
    };
    let pruned = run().await;
    assert_eq!(pruned.unwrap_err().code.name, "write-back-blocked");
    holder.batch_execute("COMMIT").await.unwrap();
    let again = run().await;
    assert_eq!(again.unwrap()[0].partitions, ["public.year_1"]);
}

/// What a relay has recorded that has come to this LSN.
fn checkpoint(confirmed_up_to: Lsn, whole_tables: &[&str]) -> Checkpoint {
    Checkpoint {
        format: CHECKPOINT_FORMAT,
        kind: Kind::Progress,
        identity: Identity {
            system_identifier: String::new(),
            timeline: 1,
            database: "postgres".into(),
            slot: "outboxd_stdout".into(),
        },
        position: None,
        floor: Lsn::INVALID,
        confirmed_up_to,
        settled_below: Lsn::INVALID,
        feed: None,
        fingerprint: Fingerprint::of(""),
        coverage: None,
        whole_tables: whole_tables.iter().map(|name| (*name).to_owned()).collect(),
        exceptions: None,
        producers: 1,
        transactional_id_prefix: None,
        relay_version: String::new(),
    }
}

/// The sink is standard output, for then a relay needs no Kafka; its slot is confirmed all the same.
fn unwritten(mode: &str) -> String {
    format!("sink = 'stdout'\n[[pipelines.tables]]\nwrite_back = '{mode}'")
}

fn relay(postgres: &Postgres, folder: &std::path::Path) -> Program {
    let url = postgres.superuser_url("postgres");
    let args = [
        "run",
        "--sink",
        "stdout",
        "--admin-listen",
        "127.0.0.1:0",
        "--postgres",
        &url,
    ];
    let args = args.map(str::to_owned);
    let log = folder.join("relay.log");
    Program::start(&stage::outboxd().unwrap(), &args, &[], &log).unwrap()
}

#[test]
async fn without_write_back_the_stream_is_the_proof() {
    let postgres = server(&format!(
        "{OUTBOX}; CREATE PUBLICATION outboxd FOR TABLE outbox; {FILL}"
    ));
    let unproven = prune(&postgres, &unwritten("off"), Extent::Remove).await;
    assert_eq!(unproven.unwrap_err().code.name, "retention-unproven");
    // A slot that somebody moves proves nothing.
    let slot = "SELECT pg_create_logical_replication_slot('outboxd_stdout', 'pgoutput')";
    value(&postgres, slot);
    let unproven = prune(&postgres, &unwritten("off"), Extent::Remove).await;
    assert_eq!(unproven.unwrap_err().code.name, "retention-unproven");
    value(
        &postgres,
        "SELECT pg_drop_replication_slot('outboxd_stdout')::text || 'gone'",
    );

    let folder = std::env::temp_dir().join(format!("outboxd-prune-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let relay = relay(&postgres, &folder);
    let active = "SELECT count(*) FROM pg_replication_slots WHERE active";
    wait::until("the relay streams", WITHIN, async || {
        Ok(value(&postgres, active) == "1")
    })
    .await
    .unwrap();
    // Rows of a transaction that has not ended are not known to be published.
    let writer = client(&postgres).await;
    let old = "INSERT INTO outbox (event_type, payload, created_at) VALUES ('transfers.x', '{}', '2001-01-01')";
    writer
        .batch_execute(&format!("BEGIN; {old}"))
        .await
        .unwrap();
    postgres.sql("postgres", old).unwrap();
    let end = Lsn::from(u64::MAX);
    let whole = checkpoint(end, &["public.outbox"]);
    let remove = order(Extent::Remove);
    let prune = async |mode, order, recorded| {
        prune_recorded(&postgres, &unwritten(mode), order, Some(recorded)).await
    };
    unproven_by(&prune, &whole).await;
    let failures = prune("failures", remove, whole.clone()).await;
    assert_eq!(failures.unwrap()[0].rows, 6000);
    let left = "FAILED:3000 FAILED-old:3000 PENDING:3000 PENDING-old:1 SENT:3000";
    assert_eq!(
        ages(&postgres),
        left,
        "what is younger than a running transaction stays"
    );
    writer.batch_execute("COMMIT").await.unwrap();
    let accepting = Order {
        accepts_earlier_rows: true,
        ..remove
    };
    let all = prune("off", accepting, checkpoint(end, &[])).await;
    assert_eq!(all.unwrap()[0].rows, 3002);
    assert_eq!(ages(&postgres), "FAILED:3000 PENDING:3000 SENT:3000");
    relay.kill9();
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Of a feed of three rows.
fn feed(marked: u64) -> FeedProgress {
    FeedProgress {
        request: "r".into(),
        rows: 3,
        fed: Fed {
            done: 3,
            marked,
            controlled: false,
        },
    }
}

/// Records that do not prove that the stream had all rows, in each way that one may not.
async fn unproven_by(
    prune: &impl AsyncFn(&'static str, Order, Checkpoint) -> Result<Vec<TableReport>, Failure>,
    whole: &Checkpoint,
) {
    let check = async |code: &str, change: &dyn Fn(&mut Checkpoint)| {
        let mut recorded = whole.clone();
        change(&mut recorded);
        let pruned = prune("off", order(Extent::Remove), recorded).await;
        assert_eq!(pruned.unwrap_err().code.name, code);
    };
    check("retention-earlier-rows", &|c| {
        c.feed = Some(feed(3));
        c.whole_tables.clear();
    })
    .await;
    let code = "retention-unproven";
    check(code, &|c| c.confirmed_up_to = Lsn::from(1)).await;
    check(code, &|c| c.kind = Kind::Repair).await;
    check(code, &|c| c.feed = Some(feed(2))).await;
    check(code, &|c| c.identity.slot = "other".into()).await;
    check(code, &|c| c.identity.database = "other".into()).await;
}

#[test]
async fn a_relay_that_is_active_removes_rows_by_itself() {
    let postgres = server(OUTBOX);
    postgres.sql("postgres", FILL).unwrap();
    let role = "CREATE ROLE relay LOGIN PASSWORD 'outboxd'; GRANT USAGE ON SCHEMA public TO relay; \
                GRANT SELECT, DELETE, UPDATE (state) ON outbox TO relay";
    postgres.sql("postgres", role).unwrap();
    let toml = "retention.period = '7d'\nretention.interval = '1s'";
    let context = context(pipeline_of(&postgres.url("relay", "postgres"), toml));
    let server = Server {
        host: context.pipeline.postgres.hosts[0].clone(),
        identity: identity(1, &context.pipeline),
    };
    let kept = pipeline(&postgres, "");
    assert!(retention::Retention::start(&super::bench::context(kept), server.clone()).is_none());
    let retention = retention::Retention::start(&context, server);
    let count = "SELECT count(*) FROM outbox";
    wait::until("old rows go", WITHIN, async || {
        Ok(value(&postgres, count) == "15000")
    })
    .await
    .unwrap();
    drop(retention);
}

fn outboxd(postgres: &Postgres, args: &[&str]) -> Output {
    let mut command = Command::new(stage::outboxd().unwrap());
    command.arg("prune").args(args);
    command.args(["--kafka", "localhost:1", "--postgres"]);
    command
        .arg(postgres.superuser_url("postgres"))
        .output()
        .unwrap()
}

#[test]
async fn the_command_says_what_it_does() {
    let postgres = server(OUTBOX);
    postgres.sql("postgres", FILL).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let dry = outboxd(&postgres, &["--older-than", "7d", "--dry-run"]);
    assert_eq!(
        text(&dry.stdout),
        "public.outbox: would remove 3000 rows\n",
        "{dry:?}"
    );
    let json = outboxd(&postgres, &["--older-than", "7d", "--json"]);
    let expected = "{\"pipelines\":[{\"dry_run\":false,\"pipeline\":\"outbox\",\"tables\":\
                    [{\"kept\":[],\"partitions\":[],\"rows\":3000,\"table\":\"public.outbox\"}]}]}\n";
    assert_eq!(text(&json.stdout), expected, "{json:?}");
    let ageless = outboxd(&postgres, &[]);
    assert_eq!(ageless.status.code(), Some(2), "{ageless:?}");
    assert!(text(&ageless.stderr).contains("--older-than"));
    postgres
        .sql("postgres", "ALTER TABLE outbox RENAME created_at TO born")
        .unwrap();
    let timeless = outboxd(&postgres, &["--older-than", "7d"]);
    assert_eq!(timeless.status.code(), Some(1));
    assert!(
        text(&timeless.stderr).contains("[retention-columns]"),
        "{timeless:?}"
    );
}
