//! The examples in other languages handle each event once.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use event::encryption::{Key, KeyAlgorithm, Keyring};
use outbox::{EncryptionPolicy, Event, Outbox};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;
use testbed::{Api, Program};

use crate::reader::{Isolation, Reader};
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "foreign-consumers",
    about: "the examples in Python and Node, killed between their commit and that of their offset: each event once, nothing of an aborted transaction; Node decrypts",
    group: Group::Proof,
    within: Duration::from_secs(400),
    run: |figures| Box::pin(run(figures)),
};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/inbox/examples");
/// In the clear, encrypted in part, and as a whole.
const TOPICS: [&str; 3] = ["transfers.settled", "ledger.posted", "compliance.flagged"];
const PER_TOPIC: i64 = 100;
const ABORTED: &str = "aborted-event";
const WITHIN: Duration = Duration::from_secs(60);

/// An example, ready to run.
struct Example {
    name: &'static str,
    topics: &'static [&'static str],
    /// Program and arguments.
    command: Vec<PathBuf>,
}

async fn run(figures: &mut Figures) -> Result<()> {
    let packages = tokio::task::spawn_blocking(packages);
    let stage = Stage::builder().proxied().patient().start().await?;
    for sql in [
        include_str!("../../../sql/inbox.sql"),
        include_str!("../../../crates/inbox/examples/ledger.sql"),
    ] {
        stage.postgres.sql(DATABASE, sql)?;
    }
    let examples = examples(&stage, packages.await??)?;
    let relay = stage.relay(&[]).await?;
    let keys = Keyring::new(Key::generate("k", KeyAlgorithm::A256Kw)?);
    std::fs::write(keyring_file(&stage), keys.to_json().as_bytes())?;
    emit(&stage, keys).await?;
    stage.caught_up(&relay).await?;
    abort(&stage)?;

    // Their first commit of an offset never arrives.
    let proxy = stage.kafka_proxy()?;
    proxy.hold_requests(Api::OFFSET_COMMIT, 2);
    let first = start_all(&stage, &examples)?;
    proxy
        .await_held(2, WITHIN)
        .with_context(|| logs(&stage, &examples))?;
    for (example, program) in examples.iter().zip(&first) {
        let claimed = format!(
            "SELECT count(*) FROM inbox WHERE consumer = '{}'",
            example.name
        );
        let claimed = stage.value(&claimed)?;
        ensure!(claimed == "1", "{}: {claimed} events claimed", example.name);
        program.kill9();
    }
    let again = start_all(&stage, &examples)?;
    for example in &examples {
        let done = example.wait_until_done(&stage).await;
        done.with_context(|| logs(&stage, &examples))?;
    }
    for (example, program) in examples.iter().zip(&again) {
        example.require_exact(&stage)?;
        let ended = program.terminate(WITHIN).context("it ignores SIGTERM")?;
        ensure!(ended.0.success(), "{}: {}", example.name, ended.0);
        figures.add(example.name, example.expected());
    }
    relay.stop().await?;
    Ok(())
}

/// What the examples run on: Python with its packages, and the packages of Node.
fn packages() -> Result<(PathBuf, PathBuf)> {
    let examples = Path::new(EXAMPLES);
    let python = testbed::python(&examples.join("python/requirements.txt"))?;
    Ok((python, testbed::node_modules(&examples.join("node"))?))
}

fn examples(stage: &Stage, (python, modules): (PathBuf, PathBuf)) -> Result<[Example; 2]> {
    // Node looks for packages beside the program.
    let node = stage.folder().join("node");
    std::fs::create_dir(&node)?;
    symlink(modules, node.join("node_modules"))?;
    for file in ["package.json", "consumer.js", "decrypt.js"] {
        std::fs::copy(Path::new(EXAMPLES).join("node").join(file), node.join(file))?;
    }
    Ok([
        Example {
            name: "python",
            topics: &TOPICS[..1],
            command: vec![python, Path::new(EXAMPLES).join("python/consumer.py")],
        },
        Example {
            name: "node",
            topics: &TOPICS,
            command: vec![
                "/usr/bin/env".into(),
                "node".into(),
                node.join("consumer.js"),
            ],
        },
    ])
}

fn start_all(stage: &Stage, examples: &[Example; 2]) -> Result<Vec<Program>> {
    examples
        .iter()
        .map(|example| example.start(stage))
        .collect()
}

fn keyring_file(stage: &Stage) -> PathBuf {
    stage.folder().join("keyring.json")
}

fn logs(stage: &Stage, examples: &[Example; 2]) -> String {
    let logs = examples.iter().map(|example| example.log_text(stage));
    logs.collect::<Vec<_>>().join("\n")
}

impl Example {
    fn start(&self, stage: &Stage) -> Result<Program> {
        let bootstrap = stage.kafka.proxied_bootstrap().context("no proxy")?;
        let keyring = keyring_file(stage);
        let env = [
            ("KAFKA_BROKERS", bootstrap.as_str()),
            ("KAFKA_TOPICS", &self.topics.join(",")),
            ("DATABASE_URL", &stage.url()),
            ("CONSUMER", self.name),
            ("OUTBOX_KEYRING_FILE", &keyring.to_string_lossy()),
        ];
        let (program, args) = self.command.split_first().context("no command")?;
        Ok(Program::start(program, args, &env, &self.log(stage))?)
    }

    fn log(&self, stage: &Stage) -> PathBuf {
        stage.folder().join(format!("{}.log", self.name))
    }

    fn log_text(&self, stage: &Stage) -> String {
        std::fs::read_to_string(self.log(stage)).unwrap_or_default()
    }

    fn expected(&self) -> i64 {
        PER_TOPIC * self.topics.len() as i64
    }

    /// The events that were handled, and how often; what they sum up to.
    fn handled(&self, stage: &Stage) -> Result<String> {
        stage.value(&format!(
            "SELECT format('%s of %s, %s', count(DISTINCT event_id), count(*), sum(amount_cents)) \
             FROM ledger_entries WHERE consumer = '{}'",
            self.name
        ))
    }

    async fn wait_until_done(&self, stage: &Stage) -> Result<()> {
        let expected = format!("{} of ", self.expected());
        let handled = async || Ok(self.handled(stage)?.starts_with(&expected));
        wait::until("every event is handled", WITHIN, handled)
            .await
            .with_context(|| format!("{}: {}", self.name, self.handled(stage).unwrap_or_default()))
            .map(drop)
    }

    fn require_exact(&self, stage: &Stage) -> Result<()> {
        let (handled, expected) = (self.handled(stage)?, self.expected());
        let sum = PER_TOPIC * (PER_TOPIC + 1) / 2 * self.topics.len() as i64;
        let exact = format!("{expected} of {expected}, {sum}");
        ensure!(handled == exact, "{}: {handled} events", self.name);
        let aborted = format!("SELECT count(*) FROM inbox WHERE event_id = '{ABORTED}'");
        ensure!(
            stage.value(&aborted)? == "0",
            "an aborted event was handled"
        );
        let log = self.log_text(stage);
        let duplicates = log.lines().filter(|line| line.starts_with("duplicate "));
        let (duplicates, text) = (duplicates.count(), "events came again");
        ensure!(duplicates == 1, "{}: {duplicates} {text}", self.name);
        Ok(())
    }
}

/// As many events for each topic, with the amounts 1, 2 and so on.
async fn emit(stage: &Stage, keys: Keyring) -> Result<()> {
    let policy = EncryptionPolicy::new()
        .payload(TOPICS[2])?
        .fields(TOPICS[1], ["payload.amount_cents", "payload.parts.*.iban"])?;
    let outbox = Outbox::new().encryption(policy, keys);
    let mut client = stage.client().await?;
    let tx = client.transaction().await?;
    let events = (1..=PER_TOPIC).flat_map(|amount| {
        let payload = json!({"amount_cents": amount, "parts": [{"iban": "A"}, {"iban": "B"}]});
        TOPICS.map(|topic| {
            Event::new(topic)
                .transfer_id(format!("t-{}", amount % 7))
                .payload(&payload)
        })
    });
    outbox.emit_all(&tx, events).await?;
    tx.commit().await?;
    Ok(())
}

/// A transaction with an event, which is aborted. It stands in the topic all the same.
fn abort(stage: &Stage) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", stage.bootstrap())
        .set("transactional.id", "aborting")
        .create()?;
    producer.init_transactions(WITHIN)?;
    producer.begin_transaction()?;
    let value = json!({
        "eventId": ABORTED,
        "type": TOPICS[0],
        "occurredAt": "2026-11-27T00:00:00Z",
        "transferId": "t-1",
        "payload": {"amount_cents": 1_000_000},
    });
    let value = value.to_string();
    let record = BaseRecord::to(TOPICS[0]).key("t-1").payload(&value);
    producer.send(record).map_err(|(error, _)| error)?;
    producer.flush(WITHIN)?;
    producer.abort_transaction(WITHIN)?;
    let mut seen = 0;
    let reader = Reader::open_at(&stage.bootstrap(), &TOPICS[..1], Isolation::Uncommitted)?;
    reader.drain_records(|message| {
        let payload = rdkafka::Message::payload(message).unwrap_or_default();
        seen += usize::from(payload == value.as_bytes());
        Ok(())
    })?;
    ensure!(
        seen == 1,
        "the aborted event stands in the topic {seen} times"
    );
    Ok(())
}
