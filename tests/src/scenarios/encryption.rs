//! Encrypted payloads are nowhere on disk as plaintext, and are read with old and new keys.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use outbox::encryption::{Key, KeyAlgorithm, Keyring, OpenError, Scope, Subject, open};
use outbox::{EncryptionPolicy, Event, Outbox};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::reader::Reader;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{self, DATABASE, DEAD_LETTERS, Stage, UNROUTABLE};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "encryption",
    about: "no plaintext in heap, WAL, topics, dead letters or log; old and new keys open, others say why not",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

/// In every encrypted value, and nowhere else.
const MARKER: &str = "plaintext-marker-b1946ac9";
/// In a payload that is not encrypted: what a search would find.
const CONTROL: &str = "control-marker-5f3759df";
/// Each with its whole payload or a field of it encrypted, or dead-lettered.
const TYPES: [&str; 3] = ["compliance.flagged", "transfers.settled", UNROUTABLE];
const PER_KEY: usize = 50;

async fn run(figures: &mut Figures) -> Result<()> {
    // The relay compresses: without this, a search would prove nothing.
    let stage = Stage::builder().kafka(|k| k.setting("compression.type", "uncompressed"));
    let stage = stage.start().await?;
    let flags = ["--log-events", "--log-level", "trace"];
    let relay = stage.relay(&flags).await?;

    let file = stage.folder().join("keyring.json");
    keys(&["generate"], &file, "old")?;
    let old = Keyring::from_file(&file)?;
    emit(&stage, old.clone()).await?;
    keys(&["rotate"], &file, "new")?;
    let both = Keyring::from_file(&file)?;
    emit(&stage, both.clone()).await?;
    stage.caught_up(&relay).await?;
    stage.postgres.sql(DATABASE, "CHECKPOINT")?;

    let places = [
        ("heap", stage.postgres.data_dir().join("base")),
        ("wal", stage.postgres.data_dir().join("pg_wal")),
        ("kafka", folder_of(&stage.kafka.log_path())?),
        ("log", folder_of(relay.log_path())?),
    ];
    for (name, folder) in &places {
        let (control, marker) = (files_with(CONTROL, folder)?, files_with(MARKER, folder)?);
        // The relay logs no payload at all.
        ensure!(
            control > 0 || *name == "log",
            "a search of {name} finds nothing"
        );
        ensure!(marker == 0, "plaintext is in {marker} files of {name}");
        figures.add(&format!("{name}_control_files"), control);
    }

    let records = records(&stage)?;
    ensure!(
        records.len() == 2 * PER_KEY * TYPES.len(),
        "{} records",
        records.len()
    );
    require_opened(&records, &both).await?;
    require_refused(&records, &old).await?;
    figures.add("opened", records.len());
    relay.stop().await?;
    Ok(())
}

/// `outboxd keys`.
fn keys(command: &[&str], file: &Path, kid: &str) -> Result<()> {
    let mut outboxd = Command::new(stage::outboxd()?);
    let output = outboxd
        .arg("keys")
        .args(command)
        .arg(file)
        .args(["--kid", kid])
        .output()?;
    ensure!(output.status.success(), "outboxd keys failed: {output:?}");
    Ok(())
}

/// Encrypted events of each type, and one that is not.
async fn emit(stage: &Stage, keys: Keyring) -> Result<()> {
    let policy = EncryptionPolicy::new()
        .payload("compliance.*")?
        .payload(UNROUTABLE)?
        .fields("transfers.*", ["payload.customer.name"])?;
    let outbox = Outbox::new().encryption(policy, keys);
    let mut client = stage.client().await?;
    let tx = client.transaction().await?;
    let encrypted = (0..PER_KEY).flat_map(|n| {
        TYPES.map(|event_type| {
            Event::new(event_type)
                .transfer_id(n.to_string())
                .payload(&payload())
        })
    });
    outbox.emit_all(&tx, encrypted).await?;
    let plain = Event::new("ledger.posted").payload(&json!({"name": CONTROL}));
    outbox.emit(&tx, plain).await?;
    tx.commit().await?;
    Ok(())
}

fn payload() -> Value {
    json!({"amount_cents": 1250, "customer": {"name": MARKER}})
}

fn folder_of(file: &Path) -> Result<std::path::PathBuf> {
    file.parent()
        .map(Path::to_owned)
        .context("a file without a folder")
}

/// How many files hold the text.
fn files_with(text: &str, folder: &Path) -> Result<usize> {
    let grep = Command::new("grep")
        .args([
            "--recursive",
            "--text",
            "--fixed-strings",
            "--files-with-matches",
            text,
        ])
        .arg(folder)
        .output()?;
    match grep.status.code() {
        // Files come and go while servers run: 2 says that one was gone, beside what was found.
        Some(0..=2) => Ok(String::from_utf8_lossy(&grep.stdout).lines().count()),
        _ => bail!("grep failed: {grep:?}"),
    }
}

/// An encrypted event as a consumer sees it.
struct Record {
    envelope: String,
    headers: HashMap<String, Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    event_id: &'a str,
    r#type: &'a str,
    #[serde(borrow)]
    payload: &'a RawValue,
}

fn records(stage: &Stage) -> Result<Vec<Record>> {
    let topics = [TYPES[0], TYPES[1], DEAD_LETTERS];
    let mut records = Vec::new();
    Reader::open(&stage.bootstrap(), &topics)?.drain_records(|message| {
        records.push(record(message)?);
        Ok(())
    })?;
    Ok(records)
}

fn record(message: &BorrowedMessage<'_>) -> Result<Record> {
    let value = message.payload().context("a record without value")?;
    let headers = message.headers().context("a record without headers")?;
    let headers = headers
        .iter()
        .filter_map(|header| Some((header.key, header.value?)));
    Ok(Record {
        envelope: String::from_utf8(value.to_vec())?,
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_vec()))
            .collect(),
    })
}

impl Record {
    async fn open(&self, keys: &Keyring) -> Result<Result<Value, OpenError>> {
        let envelope: Envelope<'_> = serde_json::from_str(&self.envelope)?;
        let subject = Subject {
            event_id: envelope.event_id,
            event_type: envelope.r#type,
        };
        let header = |name: &str| self.headers.get(name).map(Vec::as_slice);
        let scope = Scope::from_headers(header("content-encryption"), header("encrypted-fields"))?;
        let scope = scope.context("a record does not say that it is encrypted")?;
        Ok(match open(keys, subject, &scope, envelope.payload).await {
            Ok(opened) => Ok(serde_json::from_str(opened.get())?),
            Err(error) => Err(error),
        })
    }
}

async fn require_opened(records: &[Record], keys: &Keyring) -> Result<()> {
    for record in records {
        let opened = record.open(keys).await??;
        ensure!(opened == payload(), "{} opens to {opened}", record.envelope);
    }
    Ok(())
}

/// Who has the old key alone reads half of the events, and is told which key the others need; who has
/// other keys of the same names reads none.
async fn require_refused(records: &[Record], old: &Keyring) -> Result<()> {
    let mut forged = Keyring::new(Key::generate("old", KeyAlgorithm::A256Kw)?);
    forged.add(Key::generate("new", KeyAlgorithm::A256Kw)?)?;
    let mut unknown = 0;
    for record in records {
        match record.open(old).await? {
            Ok(_) => {}
            Err(OpenError::UnknownKey { kid, .. }) if kid == "new" => unknown += 1,
            Err(error) => return Err(error.into()),
        }
        let opened = record.open(&forged).await?;
        ensure!(
            matches!(opened, Err(OpenError::NotAuthentic { .. })),
            "another key of the same name: {opened:?}"
        );
    }
    ensure!(
        unknown * 2 == records.len(),
        "{unknown} of {}",
        records.len()
    );
    Ok(())
}
