//! What `outboxd init` makes is what the migrations make.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;

use testbed::{Postgres, Row};

const MIGRATIONS: [&str; 2] = [
    include_str!("../../../sql/migrations/outbox/2026112501_outbox.sql"),
    include_str!("../../../sql/migrations/outbox/2026112502_outbox_emit.sql"),
];
const SHAPE: &str = "\
    SELECT table_name || '.' || column_name, concat_ws(' ', ordinal_position, data_type, \
        is_nullable, column_default, is_identity) FROM information_schema.columns \
        WHERE table_schema = 'public' \
    UNION ALL SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint \
        WHERE conrelid = 'outbox'::regclass AND contype <> 'n' \
    UNION ALL SELECT relname, reloptions::text FROM pg_class WHERE oid = 'outbox'::regclass \
    UNION ALL SELECT proname, pg_get_functiondef(oid) FROM pg_proc \
        WHERE pronamespace = 'public'::regnamespace \
    ORDER BY 1, 2";

fn init(postgres: &Postgres, database: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_outboxd"))
        .args(["init", "--apply", "--sink", "stdout", "--postgres"])
        .arg(postgres.superuser_url(database))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn migrate(postgres: &Postgres, database: &str) {
    for migration in MIGRATIONS {
        postgres.sql(database, migration).unwrap();
    }
}

fn shape(postgres: &Postgres, database: &str) -> Vec<Row> {
    let shape = postgres.sql(database, SHAPE).unwrap();
    assert!(shape.len() > 10, "{shape:?}");
    shape
}

#[test]
fn init_and_migrations_make_the_same_in_either_order() {
    let postgres = Postgres::builder().start().unwrap();
    for database in ["init_first", "migrations_first"] {
        postgres
            .sql("postgres", &format!("CREATE DATABASE {database}"))
            .unwrap();
    }
    let made = init(&postgres, "init_first");
    assert!(made.contains("function public.outbox_emit"), "{made}");
    migrate(&postgres, "migrations_first");
    let expected = shape(&postgres, "migrations_first");
    assert_eq!(shape(&postgres, "init_first"), expected);

    migrate(&postgres, "init_first");
    let made = init(&postgres, "migrations_first");
    assert!(!made.contains("public.outbox_emit"), "{made}");
    for database in ["init_first", "migrations_first"] {
        assert_eq!(shape(&postgres, database), expected);
    }
}

/// Creates a database with this table; what `init` says of its function.
fn emit_made(postgres: &Postgres, database: &str, table: &str) -> bool {
    let create = format!("CREATE DATABASE {database}");
    postgres.sql("postgres", &create).unwrap();
    postgres.sql(database, table).unwrap();
    init(postgres, database).contains("created function public.outbox_emit")
}

#[test]
fn a_table_that_exists_gets_its_function_if_that_can_write_to_it() {
    let postgres = Postgres::builder().start().unwrap();
    let [table, _] = MIGRATIONS;
    assert!(emit_made(&postgres, "of_this_shape", table));
    let call =
        "SELECT outbox_emit('transfers.settled', 't-1', '{}'); SELECT event_type FROM outbox";
    let rows = postgres.sql("of_this_shape", call).unwrap();
    assert_eq!(
        rows.last().unwrap()[0].as_deref(),
        Some("transfers.settled")
    );
    assert!(!init(&postgres, "of_this_shape").contains("created function"));

    let more = format!(
        "{table}; ALTER TABLE outbox ADD tenant text, ADD made date NOT NULL DEFAULT now()"
    );
    assert!(emit_made(&postgres, "with_more_columns", &more));
    for (database, change) in [
        ("needs_a_value", "ADD tenant text NOT NULL"),
        ("without_headers", "DROP headers"),
        ("of_another_type", "ALTER payload TYPE text"),
    ] {
        let other = format!("{table}; ALTER TABLE outbox {change}");
        assert!(!emit_made(&postgres, database, &other), "{database}");
    }
}
