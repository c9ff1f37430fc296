//! The migrations of both libraries, run by each tool that they are made for: all of them give the same.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use outbox::Migration;
use sqlx::migrate::Migrator;
use testbed::{Postgres, Row, RunFolder};
use tokio_postgres::NoTls;

/// The folder of each library below `sql/migrations`, and what it gives to tools from memory.
const SETS: [(&str, &[Migration]); 2] =
    [("outbox", outbox::MIGRATIONS), ("inbox", inbox::MIGRATIONS)];
/// Columns, constraints, indexes, storage and functions, but for what a tool keeps of itself.
const SHAPE: &str = "\
    WITH ours AS (SELECT oid, relname FROM pg_class WHERE relkind = 'r' \
        AND relname IN ('outbox', 'inbox', 'inbox_offsets')) \
    SELECT 'column', table_name || '.' || column_name, concat_ws(' ', ordinal_position, data_type, \
        is_nullable, column_default, is_identity) FROM information_schema.columns \
        JOIN ours ON relname = table_name WHERE table_schema = 'public' \
    UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(c.oid) FROM pg_constraint c \
        JOIN ours ON conrelid = ours.oid WHERE contype <> 'n' \
    UNION ALL SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index \
        JOIN ours ON indrelid = ours.oid \
    UNION ALL SELECT 'storage', relname, reloptions::text FROM pg_class JOIN ours USING (oid, relname) \
    UNION ALL SELECT 'function', proname, pg_get_functiondef(oid) FROM pg_proc \
        WHERE pronamespace = 'public'::regnamespace \
    ORDER BY 1, 2";

/// A service's own migrations, numbered in the two usual ways.
const OWN: [(&str, &str); 3] = [
    ("0001_accounts", "CREATE TABLE accounts (id text)"),
    ("0002_accounts", "ALTER TABLE accounts ADD balance bigint"),
    ("20261125010203_accounts", "DROP TABLE accounts"),
];

fn folder(set: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("sql/migrations").join(set)
}

fn file(migration: &Migration) -> String {
    format!("{}_{}.sql", migration.version, migration.name)
}

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
    for migration in SETS.into_iter().flat_map(|(_, set)| set) {
        postgres.sql(database, migration.sql).unwrap();
    }
}

/// Twice: running them again changes nothing.
async fn by_sqlx(postgres: &Postgres, database: &str, folder: &Path) {
    let pool = sqlx::PgPool::connect(&postgres.superuser_url(database))
        .await
        .unwrap();
    let mut migrator = Migrator::new(folder).await.unwrap();
    migrator.set_ignore_missing(true);
    assert_eq!(
        migrator.iter().count(),
        fs::read_dir(folder).unwrap().count()
    );
    migrator.run(&pool).await.unwrap();
    migrator.run(&pool).await.unwrap();
}

async fn by_refinery(postgres: &Postgres, database: &str, history: &str, all: &[(String, &str)]) {
    let url = postgres.superuser_url(database);
    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let migrations: Vec<_> = all
        .iter()
        .map(|(name, sql)| refinery::Migration::unapplied(name, sql).unwrap())
        .collect();
    let mut runner = refinery::Runner::new(&migrations);
    runner.set_migration_table_name(history);
    runner.run_async(&mut client).await.unwrap();
    let applied = format!("SELECT version::text || '__' || name FROM {history} ORDER BY version");
    let applied = postgres.sql(database, &applied).unwrap();
    let applied: Vec<_> = applied.into_iter().flatten().flatten().collect();
    let expected: Vec<_> = all.iter().map(|(name, _)| name[1..].to_owned()).collect();
    assert_eq!(
        applied, expected,
        "a version that does not fit is another one"
    );
}

fn of_refinery(set: &'static [Migration]) -> Vec<(String, &'static str)> {
    let named = |m: &'static Migration| (format!("V{}__{}", m.version, m.name), m.sql);
    set.iter().map(named).collect()
}

fn shape(postgres: &Postgres, database: &str) -> Vec<Row> {
    let shape = postgres.sql(database, SHAPE).unwrap();
    assert!(shape.len() > 25, "{shape:?}");
    shape
}

#[tokio::test]
async fn all_tools_give_the_same_tables() {
    let postgres = databases(&["by_hand", "by_sqlx", "by_refinery"]);
    by_hand(&postgres, "by_hand");
    for (name, set) in SETS {
        by_sqlx(&postgres, "by_sqlx", &folder(name)).await;
        let history = format!("{name}_migrations");
        by_refinery(&postgres, "by_refinery", &history, &of_refinery(set)).await;
    }
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
    for (name, _) in SETS {
        by_sqlx(&postgres, "there", &folder(name)).await;
    }
    assert_eq!(shape(&postgres, "there"), before);
}

/// In the folder, and so in the history, of a service that has migrations already.
#[tokio::test]
async fn sqlx_takes_them_among_a_services_own() {
    let postgres = databases(&["by_sqlx", "by_hand"]);
    let service = RunFolder::fresh("migrations").unwrap();
    let own = service.path().join("own");
    fs::create_dir(&own).unwrap();
    for (name, sql) in OWN {
        fs::write(own.join(format!("{name}.sql")), sql).unwrap();
    }
    by_sqlx(&postgres, "by_sqlx", &own).await;
    for (name, set) in SETS {
        for migration in set {
            let file = file(migration);
            fs::copy(folder(name).join(&file), own.join(&file)).unwrap();
        }
    }
    by_sqlx(&postgres, "by_sqlx", &own).await;
    by_hand(&postgres, "by_hand");
    assert_eq!(shape(&postgres, "by_sqlx"), shape(&postgres, "by_hand"));
}

/// refinery refuses a version below the newest one, so they have a history of their own.
#[tokio::test]
async fn refinery_takes_them_between_a_services_own() {
    let postgres = databases(&["by_refinery"]);
    let own = [("V1__accounts", OWN[0].1), ("V2__accounts", OWN[1].1)];
    let own = own.map(|(name, sql)| (name.to_owned(), sql));
    by_refinery(
        &postgres,
        "by_refinery",
        "refinery_schema_history",
        &own[..1],
    )
    .await;
    for (name, set) in SETS {
        let history = format!("{name}_migrations");
        by_refinery(&postgres, "by_refinery", &history, &of_refinery(set)).await;
    }
    by_refinery(&postgres, "by_refinery", "refinery_schema_history", &own).await;
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
    for (name, set) in SETS {
        for migration in set {
            psql.arg("-f").arg(folder(name).join(file(migration)));
        }
    }
    let output = psql.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    by_hand(&postgres, "by_hand");
    assert_eq!(shape(&postgres, "by_psql"), shape(&postgres, "by_hand"));
}

#[test]
fn every_file_is_a_migration() {
    for (name, set) in SETS {
        let files = fs::read_dir(folder(name)).unwrap();
        let mut files: Vec<_> = files
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, set.iter().map(file).collect::<Vec<_>>());
    }
}

/// `yyyymmddNN`, each only once.
#[test]
fn versions_are_dates_and_can_not_meet() {
    let all: Vec<_> = SETS.into_iter().flat_map(|(_, set)| set).collect();
    let versions: HashSet<_> = all.iter().map(|m| m.version).collect();
    assert_eq!(versions.len(), all.len());
    for version in versions {
        let (day, month) = (version / 100 % 100, version / 10_000 % 100);
        assert!((2026..2100).contains(&(version / 1_000_000)), "{version}");
        assert!(
            (1..=12).contains(&month) && (1..=31).contains(&day),
            "{version}"
        );
    }
}
