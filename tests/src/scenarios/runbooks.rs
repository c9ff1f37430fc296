//! Every command of every runbook, in the failure that it is for.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use testbed::{Direction, Proxy};

use super::feeds;
use super::misconfiguration::run_says;
use super::promotion_reuse::copied;
use super::restored::put_back;
use super::slot_identity::lose_slot;
use super::standby_signals::{hold, not_ready};
use super::stopped::flowing;
use super::takeover::stands_by;
use crate::relay::Relay;
use crate::runbook::{Desk, Runbook};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, UNROUTABLE};
use crate::wait;

pub(super) const FLOW: Scenario = Scenario {
    name: "runbooks-flow",
    about: "runbooks of backlog, lag of relay and consumers, duplicates: every command, in that failure",
    group: Group::Proof,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(flow(figures)),
};

pub(super) const LETTERS: Scenario = Scenario {
    name: "runbooks-letters",
    about: "the runbook of dead letters: every command, with letters of several classes and a parked key",
    group: Group::Proof,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(letters(figures)),
};

pub(super) const SLOT: Scenario = Scenario {
    name: "runbooks-slot",
    about: "runbooks of a lost slot, a disk that fills, a restored server: every command, in that failure",
    group: Group::Proof,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(slot(figures)),
};

pub(super) const CHANGE: Scenario = Scenario {
    name: "runbooks-change",
    about: "runbooks of failover, upgrade and key rotation: every command",
    group: Group::Proof,
    within: Duration::from_secs(300),
    run: |figures| Box::pin(change(figures)),
};

const WITHIN: Duration = Duration::from_secs(60);
const LONG_AGO: &str = "2020-01-01T00:00:00Z";
const TOPIC: &str = "transfers.settled";
const GROUP: &str = "ledger";

async fn flow(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().proxied().patient().start().await?;
    let relay = stage
        .relay_with(&[("OUTBOXD_CONSUMERS_GROUP", GROUP)])
        .await?;
    let mut desk = Desk::at(&stage, &relay, "")?;
    stage.insert(100)?;
    stage.caught_up(&relay).await?;
    run_all(&desk, "README", &[""]).await?;

    stage.insert(5000)?;
    run_all(&desk, "backlog-spike", &["Check", "Verify"]).await?;

    let proxy = stage.kafka_proxy()?;
    proxy.freeze(Direction::Both);
    stage.insert(10)?;
    wait::until("it is not ready", WITHIN, async || {
        Ok(relay.get("/ready")?.0 == 503)
    })
    .await?;
    let mut lag = Runbook::open("publish-lag")?;
    let shown = lag.run("Check", &desk).await?;
    ensure!(
        !shown.contains("event_publish_lag_seconds{service=\"outbox\"} 0.0"),
        "no lag is shown: {shown}"
    );
    Proxy::heal(proxy)?;
    relay.ready().await?;
    lag.run("Verify", &desk).await?;
    lag.finish()?;

    let (partition, offset) = consumer_that_stands(&stage)?;
    desk.set("GROUP", GROUP);
    desk.set("TOPIC", TOPIC);
    desk.set("PARTITION", &partition.to_string());
    desk.set("OFFSET", &offset.to_string());
    desk.set("BROKER", &stage.kafka.node_id().to_string());
    wait::until("the consumer's lag is known", WITHIN, async || {
        Ok(relay.metric("event_consumer_lag_seconds", GROUP)?.is_some())
    })
    .await?;
    run_all(&desk, "consumer-lag", &["Check", "Verify"]).await?;

    let id = stage.value("SELECT id FROM outbox LIMIT 1")?;
    feeds::command(
        &stage,
        &["replay", "--id", &id, "--reason", "again", "--yes"],
        &[],
    )?;
    desk.set("EVENT_ID", &id);
    desk.set("SINCE", LONG_AGO);
    let mut flood = Runbook::open("duplicate-flood")?;
    let story = flood.run("Check", &desk).await?;
    ensure!(
        story.contains("again"),
        "who asked for the replay is not told: {story}"
    );
    flood.run("Verify", &desk).await?;
    flood.finish()?;
    relay.stop().await?;
    figures.add("runbooks", 5);
    Ok(())
}

/// A group that has handled one event of a partition and not those behind it: where it stands.
fn consumer_that_stands(stage: &Stage) -> Result<(i32, i64)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stage.bootstrap())
        .set("group.id", GROUP)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .create()?;
    consumer.subscribe(&[TOPIC])?;
    let began = Instant::now();
    // A poll also ends when the group has been joined.
    let polled = std::iter::repeat_with(|| consumer.poll(Duration::from_secs(1)));
    let mut found = polled.take_while(|_| began.elapsed() < WITHIN).flatten();
    let record = found.next().context("no record")??;
    consumer.commit_message(&record, CommitMode::Sync)?;
    let committed = consumer.committed(WITHIN)?;
    let place = committed.elements().into_iter().find_map(|element| {
        let offset = element.offset().to_raw().filter(|offset| *offset > 0)?;
        Some((element.partition(), offset))
    });
    place.context("nothing is committed")
}

async fn letters(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    let relay = stage.relay_with(&[("RETRY_MAX", "0")]).await?;
    let mut desk = Desk::at(&stage, &relay, "")?;
    let missing = "compliance.late";
    dead(&stage, missing, "k-1").await?;
    let wrong = dead(&stage, UNROUTABLE, "k-2").await?;
    let hopeless = dead(&stage, UNROUTABLE, "k-3").await?;
    // The cause of one is repaired: its row.
    stage.value(&format!(
        "UPDATE outbox SET event_type = '{TOPIC}' WHERE id = '{wrong}' RETURNING id"
    ))?;
    for (name, value) in [
        ("CLASS", "topic-missing"),
        ("CODE", "dead-letter-surge"),
        ("TOPIC", missing),
        ("REASON", "the runbook says so"),
        ("EVENT_ID", &wrong),
        ("PLACE", &place(&stage, "k-1")?),
        ("STUB", &place(&stage, "k-2")?),
        ("HOPELESS", &hopeless),
        ("SERVICE", "outbox"),
        ("KEY", "transfer-7"),
    ] {
        desk.set(name, value);
    }
    let mut book = Runbook::open("dead-letters")?;
    book.run("Check", &desk).await?;
    book.run("Fix", &desk).await?;
    let open = feeds::json(&stage, &["dlq", "stats"])?;
    ensure!(
        open["open"].as_array().is_some_and(Vec::is_empty),
        "still open: {open}"
    );
    relay.stop().await?;

    let parking = [
        ("RETRY_MAX", "0"),
        ("OUTBOXD_TABLES_ON_DEAD_LETTER", "park-key"),
    ];
    let relay = stage.relay_with(&parking).await?;
    desk.look_at(&relay);
    let later = "compliance.later";
    dead(&stage, later, "transfer-7").await?;
    let parked = dead(&stage, TOPIC, "transfer-7").await?;
    feeds::command(&stage, &["init", "--apply", "--topic", later], &[])?;
    book.run("Parked keys", &desk).await?;
    stage.caught_up(&relay).await?;
    let state = format!("SELECT state FROM outbox WHERE id = '{parked}'");
    wait::until("the parked event is published", WITHIN, async || {
        Ok(stage.value(&state)? == "SENT")
    })
    .await?;
    book.run("Verify", &desk).await?;
    book.finish()?;
    relay.stop().await?;
    figures.add("runbooks", 1);
    Ok(())
}

/// An event that becomes a dead letter; its id.
async fn dead(stage: &Stage, event_type: &str, key: &str) -> Result<String> {
    let insert = format!(
        "INSERT INTO outbox (event_type, transfer_id, payload) VALUES ('{event_type}', '{key}', '{{}}') RETURNING id"
    );
    let id = stage.value(&insert)?;
    wait::until("it is a dead letter", WITHIN, async || {
        let list = feeds::json(stage, &["dlq", "list", "--key", key])?;
        let letters = list["letters"].as_array().context("no letters")?;
        Ok(letters.iter().any(|letter| letter["event_id"] == *id))
    })
    .await?;
    Ok(id)
}

fn place(stage: &Stage, key: &str) -> Result<String> {
    let list = feeds::json(stage, &["dlq", "list", "--key", key])?;
    let place = list["letters"][0]["place"].as_str();
    Ok(place.context("no letter")?.to_owned())
}

async fn slot(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    let relay = flowing(&stage, &[]).await?;
    let mut desk = Desk::at(&stage, &relay, "")?;
    desk.set("SINCE", LONG_AGO);
    desk.set("LIMIT", "4GB");
    relay.stop().await?;
    feeds::none_pending(&stage).await?;

    stage.insert(20)?;
    lose_slot(&stage).await?;
    let relay = stage.launch(&[])?;
    desk.look_at(&relay);
    run_says(&relay, "slot-lost", "stopped").await?;
    run_all(&desk, "slot-lost", &["Check", "Fix", "Verify"]).await?;

    let locked = lock(&stage, &relay).await?;
    let mut disk = Runbook::open("disk-filling")?;
    let shown = disk.run("Check", &desk).await?;
    ensure!(
        shown.contains("write-back waits"),
        "the cause is not shown: {shown}"
    );
    drop(locked);
    disk.run("Fix", &desk).await?;
    disk.run("Verify", &desk).await?;
    disk.finish()?;

    relay.stop().await?;
    let copy = copied(&stage)?;
    let relay = flowing(&stage, &[]).await?;
    stage.insert(20)?;
    stage.caught_up(&relay).await?;
    relay.stop().await?;
    put_back(&stage, &copy)?;
    let relay = stage.launch(&[])?;
    desk.look_at(&relay);
    run_says(&relay, "wal-behind", "stopped").await?;
    run_all(&desk, "disaster-restore", &["Check", "Fix", "Verify"]).await?;
    relay.stop().await?;
    figures.add("runbooks", 3);
    Ok(())
}

/// A row that is published, and a lock for which its state waits.
async fn lock(stage: &Stage, relay: &Relay) -> Result<tokio_postgres::Client> {
    let client = stage.client().await?;
    client
        .batch_execute("BEGIN; LOCK TABLE outbox IN SHARE ROW EXCLUSIVE MODE")
        .await?;
    let insert = format!("INSERT INTO outbox (event_type, payload) VALUES ('{TOPIC}', '{{}}')");
    // Commits the row and takes the lock again before anybody else has it.
    let again = format!("{insert}; COMMIT; BEGIN; LOCK TABLE outbox IN SHARE MODE");
    client.batch_execute(&again).await?;
    wait::until("a state waits", WITHIN, async || {
        Ok(!relay.json("/status")?["pipelines"][0]["write_back_failure"].is_null())
    })
    .await?;
    Ok(client)
}

async fn change(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    let active = flowing(&stage, &[]).await?;
    let mut desk = Desk::at(&stage, &active, "")?;
    run_all(&desk, "upgrade", &["Before", "Postgres", "Verify"]).await?;

    let keyring = stage.folder().join("keyring.json");
    let keyring = keyring.to_str().context("no text")?;
    feeds::plain(&["keys", "generate", keyring])?;
    stage.postgres.sql(DATABASE, "CREATE ROLE rotated LOGIN")?;
    for (name, value) in [
        ("KEYRING", keyring),
        ("KID", "next"),
        ("ROLE", "rotated"),
        ("PASSWORD", "new"),
    ] {
        desk.set(name, value);
    }
    let sections = ["Keys of payloads", "Passwords and certificates", "Verify"];
    run_all(&desk, "key-rotation", &sections).await?;

    // The active one dies, and a program that is no relay takes the slot before the standby does.
    let standby = stage.launch(&[])?;
    stands_by(&standby).await?;
    active.program().pause();
    let terminate =
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active";
    standby.program().pause();
    stage.postgres.sql(DATABASE, terminate)?;
    let intruder = hold(&stage, "intruder").await?;
    active.program().kill9();
    standby.program().resume();
    not_ready(&standby, "intruder").await?;
    desk.look_at(&standby);
    desk.set(
        "PID",
        &stage.value("SELECT active_pid FROM pg_replication_slots")?,
    );
    let mut failover = Runbook::open("failover")?;
    failover.run("Check", &desk).await?;
    drop(intruder);
    standby.ready().await?;
    stage.insert(10)?;
    failover.run("Verify", &desk).await?;
    failover.finish()?;
    standby.stop().await?;
    figures.add("runbooks", 3);
    Ok(())
}

async fn run_all(desk: &Desk, name: &str, sections: &[&str]) -> Result<()> {
    let mut book = Runbook::open(name)?;
    for section in sections {
        book.run(section, desk).await?;
    }
    book.finish()
}
