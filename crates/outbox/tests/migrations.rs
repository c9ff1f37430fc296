//! The migrations, run by each tool that they are made for: all of them give the same.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use outbox::MIGRATIONS;
use testbed::{Postgres, Row};
use tokio_postgres::NoTls;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sql/migrations");
/// Columns, constraints, storage and functions, but for what a tool keeps of itself.
const SHAPE: &str = "\
    SELECT 'column', table_name || '.' || column_name, concat_ws(' ', ordinal_position, data_type, \
        is_nullable, column_default, is_identity) FROM information_schema.columns \
        WHERE table_schema = 'public' AND table_name = 'outbox' \
    UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint \
        WHERE conrelid = 'outbox'::regclass AND contype <> 'n' \
    UNION ALL SELECT 'storage', relname, reloptions::text FROM pg_class WHERE oid = 'outbox'::regclass \
    UNION ALL SELECT 'function', proname, pg_get_functiondef(oid) FROM pg_proc \
        WHERE pronamespace = 'public'::regnamespace \
    ORDER BY 1, 2";

fn databases(names: &[&str]) -> Postgres {
    let postgres = Postgres::builder().start().unwrap();
    for name in names {
        postgres
            .sql("postgres", &format!("CREATE DATABASE {name}"))
            .unwrap();
    }
    postgres
}

fn by_hand(postgres: &Postgres, database: &str) {
    for migration in MIGRATIONS {
        postgres.sql(database, migration.sql).unwrap();
    }
}

async fn by_sqlx(postgres: &Postgres, database: &str) {
    let pool = sqlx::PgPool::connect(&postgres.superuser_url(database))
        .await
        .unwrap();
    let migrator = sqlx::migrate::Migrator::new(Path::new(FOLDER))
        .await
        .unwrap();
    assert_eq!(migrator.iter().count(), MIGRATIONS.len());
    migrator.run(&pool).await.unwrap();
    // Running them again changes nothing.
    migrator.run(&pool).await.unwrap();
}

async fn by_refinery(postgres: &Postgres, database: &str) {
    let url = postgres.superuser_url(database);
    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let migrations = MIGRATIONS.iter().map(|migration| {
        let name = format!("V{}__{}", migration.version, migration.name);
        refinery::Migration::unapplied(&name, migration.sql).unwrap()
    });
    let runner = refinery::Runner::new(&migrations.collect::<Vec<_>>());
    let report = runner.run_async(&mut client).await.unwrap();
    assert_eq!(report.applied_migrations().len(), MIGRATIONS.len());
}

fn shape(postgres: &Postgres, database: &str) -> Vec<Row> {
    let shape = postgres.sql(database, SHAPE).unwrap();
    assert!(shape.len() > 10, "{shape:?}");
    shape
}

#[tokio::test]
async fn all_tools_give_the_same_tables() {
    let postgres = databases(&["by_hand", "by_sqlx", "by_refinery"]);
    by_hand(&postgres, "by_hand");
    by_sqlx(&postgres, "by_sqlx").await;
    by_refinery(&postgres, "by_refinery").await;
    let expected = shape(&postgres, "by_hand");
    assert_eq!(shape(&postgres, "by_sqlx"), expected);
    assert_eq!(shape(&postgres, "by_refinery"), expected);
}

/// As for a table that `outboxd init` made before.
#[tokio::test]
async fn they_pass_over_what_is_there() {
    let postgres = databases(&["there"]);
    by_hand(&postgres, "there");
    let before = shape(&postgres, "there");
    by_sqlx(&postgres, "there").await;
    assert_eq!(shape(&postgres, "there"), before);
}

/// psql is not everywhere; where it is, it runs the files.
#[test]
fn psql_runs_the_files() {
    if Command::new("psql").arg("--version").output().is_err() {
        return;
    }
    let postgres = databases(&["by_psql", "by_hand"]);
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d"]);
    psql.arg(postgres.superuser_url("by_psql"));
    for migration in MIGRATIONS {
        let file = format!("{FOLDER}/{:04}_{}.sql", migration.version, migration.name);
        psql.args(["-f", &file]);
    }
    let output = psql.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    by_hand(&postgres, "by_hand");
    assert_eq!(shape(&postgres, "by_psql"), shape(&postgres, "by_hand"));
}

#[test]
fn every_file_is_a_migration() {
    let mut files: Vec<_> = std::fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let named = MIGRATIONS.iter();
    let named = named.map(|m| format!("{:04}_{}.sql", m.version, m.name));
    assert_eq!(files, named.collect::<Vec<_>>());
}
