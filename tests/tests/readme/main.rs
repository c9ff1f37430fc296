//! What README.md tells a newcomer to write, tried.

#![allow(clippy::unwrap_used)]

mod service;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use outboxd::config::{self, Config, Overrides};
use testbed::Postgres;
use tokio_postgres::NoTls;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The only block of code in `language`.
fn block(language: &str) -> String {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let fence = format!("```{language}\n");
    let mut blocks = readme.split(&fence).skip(1);
    let block = blocks.next().unwrap().split("```").next().unwrap();
    assert_eq!(blocks.next(), None, "more than one block of {language}");
    block.to_owned()
}

#[test]
fn the_rust_code_is_the_one_that_is_compiled_here() {
    assert_eq!(block("rust"), include_str!("service.rs"));
}

#[test]
fn adding_an_outbox_takes_at_most_thirty_lines() {
    let lines = block("sql").lines().count() + block("rust").lines().count();
    assert!(lines <= 30, "{lines}");
}

#[test]
fn the_configuration_is_valid() {
    let load = |text: String| -> Config {
        let overrides = Overrides {
            config: Some("outboxd.toml".into()),
            ..Overrides::default()
        };
        let read = move |path: &Path| match path.to_str() {
            Some("outboxd.toml") => Ok(text.clone()),
            Some("/run/secrets/outboxd") => Ok("secret".to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        };
        config::load(&overrides, [], read).unwrap_or_else(|errors| panic!("{errors}"))
    };
    let config = load(block("toml"));
    assert_eq!(config.pipelines[0].tables[0].service, "payments");
}

#[test]
fn the_service_writes_change_and_event_in_one_transaction() {
    let postgres = Postgres::builder().start().unwrap();
    postgres.sql("postgres", &block("sql")).unwrap();
    let table = "CREATE TABLE transfers (id text, state text); INSERT INTO transfers VALUES ('t-1', 'open')";
    postgres.sql("postgres", table).unwrap();
    let url = postgres.superuser_url("postgres");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        service::settle(&mut client, "t-1", "10.00").await.unwrap();
        let row = client
            .query_one(
                "SELECT t.state, event_type, payload->>'amount' FROM transfers t JOIN outbox ON t.id = transfer_id",
                &[],
            )
            .await
            .unwrap();
        let text = |column: usize| row.get::<_, String>(column);
        assert_eq!(
            [text(0), text(1), text(2)],
            ["settled", "transfers.settled", "10.00"]
        );
        drop(client);
        connection.await.unwrap().unwrap();
    });
}

/// Every page: of the root, of docs, of the runbooks.
fn pages() -> Vec<PathBuf> {
    let folders = ["", "docs", "docs/runbooks"].map(|folder| root().join(folder));
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect()
}

/// The places of a page: its headings, as GitHub names them.
fn places(page: &str) -> HashSet<String> {
    let headings = page.lines().filter_map(|line| {
        let heading = line.trim_start_matches('#');
        (heading.len() < line.len()).then_some(heading.trim())
    });
    let name = |heading: &str| -> String {
        let kept = heading.to_lowercase().replace(' ', "-");
        let is_kept = |c: &char| c.is_alphanumeric() || "-_".contains(*c);
        kept.chars().filter(is_kept).collect()
    };
    headings.map(name).collect()
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    assert!(pages.len() > 20, "{pages:?}");
    for path in pages {
        let text = fs::read_to_string(&path).unwrap();
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|t| !t.contains("://")) {
            let (file, place) = target.split_once('#').unwrap_or((target, ""));
            let linked = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(linked.exists(), "{}: {target}", path.display());
            if !place.is_empty() {
                let known = places(&fs::read_to_string(&linked).unwrap());
                assert!(known.contains(place), "{}: {target}", path.display());
            }
        }
    }
}
