//! Encrypted payloads are nowhere on disk as plaintext, and are read with old and new keys.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use event::encryption::{Key, KeyAlgorithm, Keyring, OpenError, open_envelope};
use event::envelope::{Envelope, Format, Record};
use inbox::{Failure, Handlers, Transaction};
use outbox::{EncryptionPolicy, Event, Outbox};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use serde_json::{Value, json};

use crate::consumers::{self, Running};
use crate::reader::Reader;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{self, DATABASE, DEAD_LETTERS, Stage, UNROUTABLE};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "encryption",
    about: "no plaintext in heap, WAL, topics, dead letters or log; old and new keys open, others say why not, and a consumer without the key loses nothing",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

/// In every encrypted value, and nowhere else.
pub(super) const MARKER: &str = "plaintext-marker-b1946ac9";
/// In a payload that is not encrypted: what a search would find.
const CONTROL: &str = "control-marker-5f3759df";
/// Each with its whole payload or a field of it encrypted, or dead-lettered.
const TYPES: [&str; 3] = ["compliance.flagged", "transfers.settled", UNROUTABLE];
const PER_KEY: usize = 50;
const HANDLED_WITHIN: Duration = Duration::from_secs(60);

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
        let control = control.len();
        // The relay logs no payload at all.
        ensure!(
            control > 0 || *name == "log",
            "a search of {name} finds nothing"
        );
        ensure!(marker.is_empty(), "plaintext is in {marker:?}");
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
    let dead = consumed(&stage, old, both).await?;
    figures.add("consumed_from_dead_letters", dead);
    relay.stop().await?;
    Ok(())
}

/// A consumer that has the old key alone handles what it can read. The rest is dead, encrypted as it
/// was, and is handled from there once the consumer has the key.
async fn consumed(stage: &Stage, old: Keyring, both: Keyring) -> Result<String> {
    consumers::prepare(stage, "ledger").await?;
    let consumer = |topics: &[&str], keys| {
        let handlers = Handlers::new().on(TYPES[0], post).on(TYPES[1], post);
        consumers::consumer(stage, "ledger", topics, handlers.keys(keys))
    };
    let handled = "SELECT count(DISTINCT event_id) || ' of ' || count(*) FROM entries";
    let until = async |expected: usize| {
        let expected = format!("{expected} of {expected}");
        wait::until("events are handled", HANDLED_WITHIN, async || {
            Ok(stage.value(handled)? == expected)
        })
        .await
    };
    let first = Running::start(consumer(&TYPES[..2], old)?)?;
    until(2 * PER_KEY).await?;
    let mut dead = Vec::new();
    wait::until("the others are dead", HANDLED_WITHIN, async || {
        dead = dead_letters(stage)?;
        Ok(dead.len() == 2 * PER_KEY)
    })
    .await?;
    first.stop().await?;
    for (reason, envelope) in &dead {
        ensure!(
            reason.contains("key \"new\", which this keyring does not have"),
            "{reason}"
        );
        ensure!(envelope.encryption().is_some(), "{envelope:?}");
    }
    let again = consumer(&["ledger.dead-letter"], both)?.group("ledger-again");
    let again = Running::start(again)?;
    until(4 * PER_KEY).await?;
    again.stop().await?;
    Ok(dead.len().to_string())
}

async fn post(event: inbox::Event<Value>, tx: &Transaction<'_>) -> Result<(), Failure> {
    if event.payload != payload() {
        return Err(Failure::permanent("another payload than was written"));
    }
    let sql = "INSERT INTO entries (event_id) VALUES ($1)";
    tx.execute(sql, &[&event.id()]).await?;
    Ok(())
}

/// Dead letters of the consumer: why, and the event.
fn dead_letters(stage: &Stage) -> Result<Vec<(String, Envelope)>> {
    let mut dead = Vec::new();
    Reader::open(&stage.bootstrap(), &["ledger.dead-letter"])?.drain_records(|message| {
        let envelope = Envelope::read(record(message)?, Format::Envelope)?;
        let reason = envelope.headers.text(envelope::dead_letter::REASON);
        dead.push((reason.context("no reason")?.to_owned(), envelope));
        Ok(())
    })?;
    Ok(dead)
}

/// `outboxd keys`.
pub(super) fn keys(command: &[&str], file: &Path, kid: &str) -> Result<()> {
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

pub(super) fn payload() -> Value {
    json!({"amount_cents": 1250, "customer": {"name": MARKER}})
}

pub(super) fn folder_of(file: &Path) -> Result<std::path::PathBuf> {
    file.parent()
        .map(Path::to_owned)
        .context("a file without a folder")
}

/// The files that hold the text.
pub(super) fn files_with(text: &str, folder: &Path) -> Result<Vec<String>> {
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
        Some(0..=2) => {
            let files = String::from_utf8_lossy(&grep.stdout);
            Ok(files.lines().map(str::to_owned).collect())
        }
        _ => bail!("grep failed: {grep:?}"),
    }
}

/// Encrypted events as a consumer sees them. The dead letter of a row that is no event has the bare
/// payload of the row.
fn records(stage: &Stage) -> Result<Vec<Envelope>> {
    let topics = [TYPES[0], TYPES[1], DEAD_LETTERS];
    let mut records = Vec::new();
    Reader::open(&stage.bootstrap(), &topics)?.drain_records(|message| {
        let format = match message.topic() {
            DEAD_LETTERS => Format::Payload,
            _ => Format::Envelope,
        };
        let record = Envelope::read(record(message)?, format)?;
        ensure!(
            record.encryption().is_some(),
            "{record:?} says nothing of keys"
        );
        records.push(record);
        Ok(())
    })?;
    Ok(records)
}

pub(super) fn record(message: &BorrowedMessage<'_>) -> Result<Record> {
    let headers = message.headers().context("a record without headers")?;
    let headers = headers.iter().map(|header| {
        let value = header.value.map(Bytes::copy_from_slice);
        (header.key, value)
    });
    Ok(Record {
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        timestamp_ms: message.timestamp().to_millis(),
        headers: headers.collect(),
    })
}

async fn require_opened(records: &[Envelope], keys: &Keyring) -> Result<()> {
    for record in records {
        let opened: Value = open_envelope(keys, record).await?.parse()?;
        ensure!(opened == payload(), "{record:?} opens to {opened}");
    }
    Ok(())
}

/// Who has the old key alone reads half of the events, and is told which key the others need; who has
/// other keys of the same names reads none.
async fn require_refused(records: &[Envelope], old: &Keyring) -> Result<()> {
    let mut forged = Keyring::new(Key::generate("old", KeyAlgorithm::A256Kw)?);
    forged.add(Key::generate("new", KeyAlgorithm::A256Kw)?)?;
    let mut unknown = 0;
    for record in records {
        match open_envelope(old, record).await {
            Ok(_) => {}
            Err(OpenError::UnknownKey { kid, .. }) if kid == "new" => unknown += 1,
            Err(error) => return Err(error.into()),
        }
        let opened = open_envelope(&forged, record).await;
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
