//! A server with an outbox, and a write-back to it.

use std::sync::Arc;
use std::time::Duration;

use delivery::{Consent, Identity, Mark, Marks, Outcome};
use envelope::TableId;
use outboxd::config::{self, HostAddr, Overrides, Pipeline};
use outboxd::pipeline::{Context, Sharing};
use outboxd::telemetry::{Metrics, Vitals};
use outboxd::writeback::{Server, WriteBack};
use testbed::Postgres;
use tokio_postgres::{Client, NoTls};

pub const OUTBOX: &str = include_str!("../../../sql/outbox.sql");
pub const WITHIN: Duration = Duration::from_secs(30);

pub const FAILED: Outcome<'static> = Outcome::Failed {
    attempts: 6,
    error: "no such topic",
};

/// A server with the statements of `sql` carried out in database `postgres`.
pub fn server(sql: &str) -> Postgres {
    let postgres = Postgres::builder().start().unwrap();
    postgres.sql("postgres", sql).unwrap();
    postgres
}

pub async fn client(postgres: &Postgres) -> Client {
    let url = postgres.superuser_url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The first column of the first row.
pub fn value(postgres: &Postgres, sql: &str) -> String {
    let rows = postgres.sql("postgres", sql).unwrap();
    rows.into_iter().flatten().flatten().next().unwrap()
}

/// A pipeline to this server, as the superuser; `toml` are further keys.
pub fn pipeline(postgres: &Postgres, toml: &str) -> Pipeline {
    pipeline_of(&postgres.superuser_url("postgres"), toml)
}

pub fn pipeline_of(url: &str, toml: &str) -> Pipeline {
    let text = format!("[[pipelines]]\nkafka.bootstrap = 'localhost:1'\n{toml}");
    let overrides = Overrides {
        config: Some("outboxd.toml".into()),
        postgres: Some(url.to_owned()),
        ..Overrides::default()
    };
    let config = config::load(&overrides, [], |_| Ok(text.clone()));
    config.unwrap().pipelines.remove(0)
}

pub fn context(pipeline: Pipeline) -> Context {
    Context {
        consent: Consent::default(),
        log_events: false,
        spans: None,
        sharing: Sharing(1),
        shutdown_timeout: WITHIN,
        vitals: Arc::new(Vitals::new(&pipeline)),
        metrics: Metrics::new().pipeline(&pipeline),
        pipeline,
    }
}

pub fn write_back(context: &Context) -> WriteBack {
    write_back_of(identity(1, &context.pipeline), context)
}

/// As if the stream came from this server.
pub fn write_back_of(identity: Identity, context: &Context) -> WriteBack {
    let server = Server {
        host: context.pipeline.postgres.hosts[0].clone(),
        identity,
    };
    WriteBack::start(context, server)
}

pub fn identity(timeline: u32, pipeline: &Pipeline) -> Identity {
    Identity {
        system_identifier: cluster(pipeline),
        timeline,
        database: pipeline.postgres.database.clone(),
        slot: pipeline.postgres.slot.clone(),
    }
}

/// The server's `system_identifier`, asked for beside the runtime of the test.
fn cluster(pipeline: &Pipeline) -> String {
    let host = &pipeline.postgres.hosts[0];
    let HostAddr::Tcp(name) = &host.host else {
        panic!("a socket");
    };
    let mut config = tokio_postgres::Config::new();
    config
        .host(name)
        .port(host.port)
        .user(&pipeline.postgres.user)
        .password("outboxd")
        .dbname(&pipeline.postgres.database);
    let ask = async move {
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let sql = "SELECT system_identifier::text FROM pg_control_system()";
        client.query_one(sql, &[]).await.unwrap().get(0)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let asking = std::thread::spawn(move || runtime.block_on(ask));
    asking.join().unwrap()
}

/// Marks of one transaction in the first table.
pub fn marks<'a>(rows: impl IntoIterator<Item = (&'a str, Outcome<'a>)>, xid: u32) -> Marks {
    let mut marks = Marks::default();
    for (id, outcome) in rows {
        let table = TableId(0);
        marks.push(Mark { table, id, outcome });
    }
    marks.push_xid(xid);
    marks
}

/// Inserts pending rows in one transaction; gives their ids and its number.
pub async fn insert(client: &Client, rows: i32) -> (Vec<String>, u32) {
    let sql = "INSERT INTO outbox (event_type, payload) SELECT 'a.b', '{}' \
               FROM generate_series(1, $1) RETURNING id::text, pg_current_xact_id()::text";
    let rows = client.query(sql, &[&rows]).await.unwrap();
    let xid: String = rows[0].get(1);
    let ids = rows.iter().map(|row| row.get(0)).collect();
    (ids, xid.parse::<u64>().unwrap() as u32)
}

pub fn sent<'a>(ids: &'a [String]) -> impl Iterator<Item = (&'a str, Outcome<'a>)> {
    ids.iter().map(|id| (id.as_str(), Outcome::Sent))
}

/// The id of what is done next.
pub async fn done(write_back: &mut WriteBack) -> u64 {
    let done = tokio::time::timeout(WITHIN, write_back.done()).await;
    done.expect("nothing is done").id
}

/// Nothing is done for as long as that.
pub async fn nothing_done(write_back: &mut WriteBack, for_long: Duration) {
    let done = tokio::time::timeout(for_long, write_back.done()).await;
    assert!(done.is_err(), "done: {done:?}");
}

/// How many rows are in which state.
pub fn states(postgres: &Postgres) -> String {
    value(
        postgres,
        "SELECT coalesce(string_agg(state || '=' || n, ' '), '') FROM \
         (SELECT state::text, count(*) n FROM outbox GROUP BY 1 ORDER BY 1) s",
    )
}
