//! Whether a table can be written back to is known at the start.

use outboxd::source::catalog::Catalog;
use outboxd::writeback;
use tokio::test;

use super::bench::{OUTBOX, pipeline, pipeline_of, server};

#[test]
async fn what_is_missing_is_refused_at_the_start() {
    let postgres = server(OUTBOX);
    let role = "CREATE ROLE relay LOGIN PASSWORD 'outboxd'; GRANT USAGE ON SCHEMA public TO relay; \
                GRANT SELECT (id, state), UPDATE (state, attempts, last_error) ON outbox TO relay";
    postgres.sql("postgres", role).unwrap();
    let plain = postgres.url("relay", "postgres");
    let check = async |toml: &str| {
        let pipeline = pipeline_of(&plain, toml);
        let catalog = Catalog::connect(&pipeline.postgres, &pipeline.postgres.hosts[0]).await;
        let checked = writeback::check(&catalog.unwrap(), &pipeline).await;
        checked.err().map(|failure| failure.code.name)
    };
    let mapped = |columns: &str| format!("[[pipelines.tables]]\n{columns}");
    assert_eq!(check("").await, None);
    let missing = Some("write-back-columns");
    assert_eq!(check(&mapped("columns.state = 'status'")).await, missing);
    assert_eq!(check(&mapped("columns.attempts = 'tries'")).await, missing);
    let denied = Some("permission-denied");
    assert_eq!(check(&mapped("columns.state = 'event_type'")).await, denied);
    assert_eq!(check(&mapped("columns.id = 'seq'")).await, denied);
    assert_eq!(
        check(&mapped("columns.id = 'seq'\nwrite_back = 'off'")).await,
        None
    );
    let none = mapped("table = 'nowhere'");
    assert_eq!(check(&none).await, Some("table-missing"));
}

#[test]
async fn a_state_that_decides_the_partition_is_refused() {
    let postgres = server(
        "CREATE TABLE by_state (id int, state text) PARTITION BY LIST (state); \
         CREATE TABLE by_expression (id int, state text) PARTITION BY LIST (lower(state)); \
         CREATE TABLE below (id int, state text) PARTITION BY RANGE (id); \
         CREATE TABLE below_1 PARTITION OF below FOR VALUES FROM (1) TO (2) PARTITION BY LIST (state); \
         CREATE TABLE computed (id int, state text GENERATED ALWAYS AS ('SENT') STORED); \
         CREATE TABLE fine (id int, state text) PARTITION BY RANGE (id)",
    );
    for table in ["by_state", "by_expression", "below", "computed", "fine"] {
        let pipeline = pipeline(
            &postgres,
            &format!("[[pipelines.tables]]\ntable = '{table}'"),
        );
        let catalog = Catalog::connect(&pipeline.postgres, &pipeline.postgres.hosts[0]).await;
        let checked = writeback::check(&catalog.unwrap(), &pipeline).await;
        let code = checked.err().map(|failure| failure.code.name);
        let expected = (table != "fine").then_some("write-back-columns");
        assert_eq!(code, expected, "{table}");
    }
}
