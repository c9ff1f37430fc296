//! Chosen topics are published in the clear, and nothing else is.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use event::encryption::{ENCRYPTED_FIELDS_HEADER, Key, KeyAlgorithm, Keyring};
use event::envelope::{Envelope, Format};
use outbox::{EncryptionPolicy, Event, Outbox};

use super::encryption::{MARKER, files_with, folder_of, keys, payload, record};
use super::feeds;
use super::misconfiguration::run_says;
use crate::letters::letters;
use crate::reader::Reader;
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "decrypted-topics",
    about: "chosen topics are published in the clear, through a kill and a rotation; what can't be decrypted is dead as ciphertext until its key is there; plaintext is in no other place",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

/// Published in the clear.
const CHOSEN: &str = "recon.matched";
/// Passes through.
const OTHER: &str = "compliance.flagged";
const EACH: usize = 20;
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

async fn run(figures: &mut Figures) -> Result<()> {
    // The relay compresses: without this, a search would prove nothing.
    let stage = Stage::builder().kafka(|k| k.setting("compression.type", "uncompressed"));
    let stage = stage.start().await?;
    let file = stage.folder().join("keyring.json");
    let relay = launch(&stage, &file)?;
    run_says(&relay, "keyring", "stopped").await?;
    keys(&["generate"], &file, "old")?;
    relay.ready().await.context("the keyring is there")?;

    emit(&stage, Keyring::from_file(&file)?).await?;
    relay.program().kill9();
    let relay = launch(&stage, &file)?;
    relay.ready().await?;
    keys(&["rotate"], &file, "new")?;
    noticed(&relay, 1).await?;
    emit(&stage, Keyring::from_file(&file)?).await?;
    let stranger = Key::generate("stranger", KeyAlgorithm::Direct)?;
    emit(&stage, Keyring::new(stranger.clone())).await?;
    stage.caught_up(&relay).await?;
    require_published(&stage, 4 * EACH)?;
    require_dead(&stage, 2 * EACH)?;
    require_plaintext_nowhere_else(&stage, &relay)?;

    let mut all = Keyring::from_file(&file)?;
    all.add(stranger)?;
    std::fs::write(&file, all.to_json().as_bytes())?;
    noticed(&relay, 2).await?;
    let replay = ["dlq", "replay", "--class", "encryption"];
    let replay = [&replay[..], &["--reason", "the key is there", "--yes"]].concat();
    let done = feeds::json(&stage, &replay)?;
    ensure!(done["published"] == 2 * EACH, "{done}");
    require_published(&stage, 6 * EACH)?;
    stage.caught_up(&relay).await?;
    require_plaintext_nowhere_else(&stage, &relay)?;
    relay.stop().await?;
    figures.add("published", 6 * EACH);
    figures.add("dead_at_first", 2 * EACH);
    Ok(())
}

fn launch(stage: &Stage, file: &Path) -> Result<Relay> {
    let flags = ["--log-events", "--log-level", "trace"];
    let file = file.to_string_lossy();
    let env = [
        ("OUTBOXD_DECRYPT_TOPICS", "recon.*"),
        ("OUTBOXD_DECRYPT_KEYRING_FILE", &*file),
    ];
    stage.launch_with(&flags, &env)
}

async fn noticed(relay: &Relay, times: usize) -> Result<()> {
    wait::until(
        "the keyring's change is noticed",
        NOTICED_WITHIN,
        async || {
            let log = relay.log_text();
            Ok(log.matches("the keyring has changed").count() == times)
        },
    )
    .await
    .with_context(|| relay.log_text())
    .map(drop)
}

/// Events for the chosen topic, with their whole payload and with a field of it encrypted, and for another
/// topic.
async fn emit(stage: &Stage, keys: Keyring) -> Result<()> {
    let whole = EncryptionPolicy::new().payload("*")?;
    let fields = EncryptionPolicy::new().fields("*", ["payload.customer.name"])?;
    let mut client = stage.client().await?;
    let tx = client.transaction().await?;
    for (policy, event_type) in [(whole.clone(), CHOSEN), (fields, CHOSEN), (whole, OTHER)] {
        let outbox = Outbox::new().encryption(policy, keys.clone());
        let events = (0..EACH).map(|_| Event::new(event_type).payload(&payload()));
        outbox.emit_all(&tx, events).await?;
    }
    tx.commit().await?;
    Ok(())
}

fn read(stage: &Stage, topic: &str) -> Result<Vec<Envelope>> {
    let mut read = Vec::new();
    Reader::open(&stage.bootstrap(), &[topic])?.drain_records(|message| {
        read.push(Envelope::read(record(message)?, Format::Envelope)?);
        Ok(())
    })?;
    Ok(read)
}

fn require_published(stage: &Stage, expected: usize) -> Result<()> {
    let published = read(stage, CHOSEN)?;
    let ids = published.iter().map(|event| event.event_id.as_str());
    let distinct = ids.collect::<std::collections::HashSet<_>>().len();
    ensure!(
        published.len() == expected && distinct == expected,
        "{distinct} events in {} records, not {expected}",
        published.len()
    );
    for event in &published {
        let value: serde_json::Value = event.payload.parse()?;
        let fields = event.headers.get(ENCRYPTED_FIELDS_HEADER);
        let is_clear = value == payload() && event.encryption().is_none() && fields.is_none();
        ensure!(is_clear, "{event:?} is not in the clear");
    }
    let others = read(stage, OTHER)?;
    let sealed = others.iter().filter(|event| event.encryption().is_some());
    ensure!(
        others.len() == 3 * EACH && sealed.count() == others.len(),
        "{} events of the other topic, not all as they were",
        others.len()
    );
    Ok(())
}

/// The dead letters are ciphertext, and say which key they need. So do their rows.
fn require_dead(stage: &Stage, expected: usize) -> Result<()> {
    let letters = letters(stage)?;
    let as_written = letters
        .iter()
        .filter(|letter| letter.class == "encryption" && !letter.record.1.contains(MARKER));
    ensure!(
        letters.len() == expected && as_written.count() == expected,
        "{letters:?}"
    );
    let told = stage.value(
        "SELECT count(*) FROM outbox WHERE state = 'FAILED' AND \
         last_error LIKE '%is encrypted with key \"stranger\", which this keyring does not have'",
    )?;
    ensure!(told == expected.to_string(), "{told} rows say why");
    Ok(())
}

fn require_plaintext_nowhere_else(stage: &Stage, relay: &Relay) -> Result<()> {
    stage.postgres.sql(DATABASE, "CHECKPOINT")?;
    let clean = [
        stage.postgres.data_dir().join("base"),
        stage.postgres.data_dir().join("pg_wal"),
        folder_of(relay.log_path())?,
    ];
    for folder in clean {
        let found = files_with(MARKER, &folder)?;
        ensure!(found.is_empty(), "plaintext is in {found:?}");
    }
    let found = files_with(MARKER, &folder_of(&stage.kafka.log_path())?)?;
    ensure!(!found.is_empty(), "a search of kafka finds nothing");
    let elsewhere: Vec<_> = found
        .iter()
        .filter(|file| !file.contains(&format!("/{CHOSEN}-")))
        .collect();
    ensure!(elsewhere.is_empty(), "plaintext is in {elsewhere:?}");
    Ok(())
}
