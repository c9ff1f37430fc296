//! The lag of consumers tells the truth: that of the library, and that of the relay for any client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use inbox::{Event, Failure, Handler, Handlers, Transaction};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use testbed::Program;
use tokio::sync::Semaphore;

use super::{acl, feeds};
use crate::consumers::{self, Running};
use crate::exposition::{self, Exposer};
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::Stage;
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "consumer-lag",
    about: "event_consumer_lag_seconds, of the library and of the relay for it and a Java consumer, follows consumers that stand by the commit times in the table, grows while the broker is silent, and returns to exactly 0 behind transaction markers",
    group: Group::Short,
    within: Duration::from_secs(180),
    run: |figures| Box::pin(run(figures)),
};

const TOPIC: &str = "transfers.settled";
const PARTITIONS: i32 = 6;
const WITHIN: Duration = Duration::from_secs(40);
/// From where events are committed to where the lag tells of the oldest: a window, and a round of questions,
/// which are a second apart; or a consumer's way into its group.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
const SAMPLES: u32 = 5;
/// A loaded machine samples late by as much; all clocks are the same.
const DEVIATION_MAX_S: f64 = 0.5;
const EVENTS: u32 = 50;

/// Stands until it is told to go on.
struct Gate(Arc<Semaphore>);

impl Handler<serde_json::Value> for Gate {
    async fn handle(
        &self,
        _: Event<serde_json::Value>,
        _: &Transaction<'_>,
    ) -> Result<(), Failure> {
        self.0.acquire().await?.forget();
        Ok(())
    }
}

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder()
        .patient()
        .kafka(acl::authorizing)
        .start()
        .await?;
    consumers::prepare(&stage, "ledger").await?;
    acl::seal_group(&stage, "sealed")?;
    let config = configure(&stage)?;
    let relay = stage.relay(&["--config", &config]).await?;
    let relayed = |service: &'static str| Source::Relay(&relay, service);

    let gate = Arc::new(Semaphore::new(EVENTS as usize));
    let ledger = Ledger::start(&stage, &gate)?;
    wait::until("an empty topic has no lag", WITHIN, async || {
        ledger.source().is_zero()
    })
    .await?;
    let recon = foreign(&stage)?;
    stage.insert(EVENTS)?;
    let all = [ledger.source(), relayed("ledger"), relayed("recon")];
    until_zero(&all).await?;

    // One is gone, the other stands in the middle of its work.
    ledger.stop().await?;
    recon.pause();
    stage.insert(EVENTS)?;
    let stopped = [relayed("ledger"), relayed("recon")];
    let deviation = follow(&stage, &stopped).await?;
    figures.add("deviation_max_s", format!("{deviation:.3}"));
    for service in ["ledger", "recon"] {
        let records = relay.count("event_consumer_lag_records", &labels(service))?;
        ensure!(records >= f64::from(EVENTS), "{service}: {records} records");
    }
    // What the library says of itself is the same.
    let ledger = Ledger::start(&stage, &gate)?;
    let deviation = follow(&stage, &[ledger.source(), relayed("ledger")]).await?;
    figures.add("deviation_library_s", format!("{deviation:.3}"));

    gate.add_permits(EVENTS as usize);
    recon.resume();
    let all = [ledger.source(), relayed("ledger"), relayed("recon")];
    let zero = until_zero(&all).await?;
    figures.add("zero_after_ms", zero.as_millis());
    let claimed = stage.value("SELECT count(*) FROM inbox")?;
    ensure!(
        claimed == (2 * EVENTS).to_string(),
        "lag 0, but {claimed} events handled"
    );
    exposition::check(&exposed(&ledger.registry)?, Exposer::Consumer)?;
    exposition::check(&relay.get("/metrics")?.1, Exposer::Relay)?;
    let markers = behind_committed(&stage, "ledger")?;
    figures.add("offsets_behind_committed", markers);
    ensure!(markers > 0, "no markers behind the last events");
    // It stays there, long after the last event.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for source in &all {
            ensure!(source.is_zero()?, "{source:?}: lag with nothing to do");
        }
    }
    what_is_wrong_is_named(&relay)?;
    doctor_names_it_too(&stage, &config)?;
    a_standby_is_silent(&stage, &config).await?;

    stage.kafka.pause()?;
    let grown = async || Ok(all.iter().all(|s| s.lag().is_ok_and(|lag| lag > Some(7.0))));
    wait::until("lag grows while the broker is silent", WITHIN, grown).await?;
    let stale = relay.metric("event_consumer_lag_stale", "service=\"recon\"")?;
    ensure!(stale == Some(1.0), "not stale: {stale:?}");
    stage.kafka.resume()?;
    until_zero(&all).await?;
    ledger.stop().await?;
    recon.kill9();
    relay.stop().await?;
    Ok(())
}

fn configure(stage: &Stage) -> Result<String> {
    let path = stage.folder().join("outboxd.toml");
    let toml = "[[pipelines]]\n\
        consumers = [{ group = \"ledger\" }, { group = \"nobody\" }, { group = \"sealed\" }, \
        { group = \"recon-java\", service = \"recon\", topics = [\"transfers.*\"] }]\n";
    std::fs::write(&path, toml)?;
    Ok(path.to_string_lossy().into_owned())
}

fn exposed(registry: &Registry) -> Result<String> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(text)
}

/// A consumer that knows nothing of the library, as a process of its own.
fn foreign(stage: &Stage) -> Result<Program> {
    let class = "org.apache.kafka.tools.consumer.ConsoleConsumer";
    let mut consumer = stage.kafka.tool(class)?;
    consumer
        .args(["--bootstrap-server", &stage.bootstrap(), "--topic", TOPIC])
        .args([
            "--group",
            "recon-java",
            "--isolation-level",
            "read_committed",
        ])
        .args(["--from-beginning", "--consumer-property"])
        .arg("auto.commit.interval.ms=100");
    Ok(Program::spawn(consumer, &stage.folder().join("recon.log"))?)
}

/// A consumer of the library with its own metrics.
struct Ledger {
    running: Running,
    registry: Registry,
}

impl Ledger {
    fn start(stage: &Stage, gate: &Arc<Semaphore>) -> Result<Self> {
        let handlers = Handlers::new().on(TOPIC, Gate(Arc::clone(gate)));
        let mut registry = Registry::default();
        let builder = consumers::consumer(stage, "ledger", &[TOPIC], handlers)?;
        let running = Running::start(builder.metrics(&mut registry))?;
        Ok(Self { running, registry })
    }

    fn source(&self) -> Source<'_> {
        Source::Library(&self.registry)
    }

    async fn stop(self) -> Result<()> {
        self.running.stop().await
    }
}

/// Who tells a lag.
enum Source<'a> {
    Library(&'a Registry),
    /// For this service.
    Relay(&'a Relay, &'static str),
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Library(_) => f.write_str("library"),
            Self::Relay(_, service) => write!(f, "relay for {service}"),
        }
    }
}

impl Source<'_> {
    /// As it is scraped.
    fn lag(&self) -> Result<Option<f64>> {
        const NAME: &str = "event_consumer_lag_seconds";
        match self {
            Self::Relay(relay, service) => relay.metric(NAME, &labels(service)),
            Self::Library(registry) => {
                let text = exposed(registry)?;
                let sample = format!("{NAME}{{{}}} ", labels("ledger"));
                let value = text.lines().find_map(|line| line.strip_prefix(&sample));
                value
                    .map(|value| value.parse().context("not a number"))
                    .transpose()
            }
        }
    }

    /// Exactly; and the relay counts no records, either.
    fn is_zero(&self) -> Result<bool> {
        let records = match self {
            Self::Library(_) => Some(0.0),
            Self::Relay(relay, service) => {
                relay.metric("event_consumer_lag_records", &labels(service))?
            }
        };
        Ok(self.lag()? == Some(0.0) && records == Some(0.0))
    }
}

/// The library and the relay have the same ones.
fn labels(service: &str) -> String {
    format!("service=\"{service}\",topic=\"{TOPIC}\"")
}

async fn until_zero(sources: &[Source<'_>]) -> Result<Duration> {
    let all_zero = async || {
        let zero = sources.iter().map(Source::is_zero);
        Ok(zero.collect::<Result<Vec<_>>>()?.iter().all(|zero| *zero))
    };
    wait::until("lag is exactly 0", WITHIN, all_zero)
        .await
        .with_context(|| format!("{:?}", sources.iter().map(Source::lag).collect::<Vec<_>>()))
}

/// How far lags are, at most, from the age of the oldest event that is not handled, second by second. That
/// is the first of the last ones that were inserted, as the table says.
async fn follow(stage: &Stage, sources: &[Source<'_>]) -> Result<f64> {
    let oldest = format!(
        "SELECT extract(epoch FROM created_at)::float8 FROM outbox ORDER BY created_at DESC OFFSET {} LIMIT 1",
        EVENTS - 1
    );
    let committed: f64 = stage.value(&oldest)?.parse()?;
    let age = || -> Result<f64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(now.as_secs_f64() - committed)
    };
    let is_near = |source: &Source<'_>| -> Result<bool> {
        let age = age()?;
        Ok(source
            .lag()?
            .is_some_and(|lag| lag > 0.0 && (lag - age).abs() < DEVIATION_MAX_S))
    };
    for source in sources {
        let told = wait::until("lag is told", TOLD_WITHIN, async || is_near(source)).await;
        told.with_context(|| format!("{source:?}: {:?} at {:?}", source.lag(), age()))?;
    }
    let mut deviation_s: f64 = 0.0;
    for _ in 0..SAMPLES {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for source in sources {
            let before = age()?;
            let lag = source.lag()?.context("no lag")?;
            let off = (lag - before).abs().min((lag - age()?).abs());
            ensure!(
                off <= DEVIATION_MAX_S,
                "{source:?}: {lag} s, but the oldest event is {before} s old"
            );
            deviation_s = deviation_s.max(off);
        }
    }
    Ok(deviation_s)
}

/// Offsets behind those that a group has committed.
fn behind_committed(stage: &Stage, group: &str) -> Result<i64> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", stage.bootstrap())
        .set("group.id", group);
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition(TOPIC, partition);
    }
    let mut behind = 0;
    for place in consumer.committed_offsets(list, WITHIN)?.elements() {
        if let Offset::Offset(offset) = place.offset() {
            let (_, end) = consumer.fetch_watermarks(TOPIC, place.partition(), WITHIN)?;
            behind += end - offset;
        }
    }
    Ok(behind)
}

fn what_is_wrong_is_named(relay: &Relay) -> Result<()> {
    let status = relay.json("/status")?;
    let consumers = status["pipelines"][0]["consumers"].as_array();
    let of = |consumer: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("none").to_owned();
        (
            text(&consumer["service"]),
            text(&consumer["failure"]["code"]),
        )
    };
    let failures: BTreeMap<_, _> = consumers.context("no consumers")?.iter().map(of).collect();
    for (service, code, stale) in [
        ("ledger", "none", 0.0),
        ("recon", "none", 0.0),
        ("nobody", "consumer-group-unknown", 1.0),
        ("sealed", "consumer-group-denied", 1.0),
    ] {
        let found = failures.get(service).map(String::as_str);
        ensure!(found == Some(code), "{service}: {found:?}");
        let label = format!("service=\"{service}\"");
        let shown = relay.metric("event_consumer_lag_stale", &label)?;
        ensure!(shown == Some(stale), "{service}: stale {shown:?}");
    }
    let log = relay.log_text();
    for group in ["nobody", "sealed"] {
        let group = format!("\"group\":\"{group}\"");
        let told = log.lines().filter(|line| line.contains(&group)).count();
        ensure!(told == 1, "{group}: told {told} times");
    }
    Ok(())
}

fn doctor_names_it_too(stage: &Stage, config: &str) -> Result<()> {
    let said = feeds::command(stage, &["doctor", "--config", config], &[])?;
    for line in [
        "OK    consumer-group         ledger reads transfers.settled",
        "OK    consumer-group         recon-java reads transfers.settled",
        "WARN  consumer-group         nobody: ",
        "WARN  consumer-group         sealed: ",
    ] {
        ensure!(said.contains(line), "no {line:?}: {said}");
    }
    let is_told = |code| said.contains(&format!("[{code}]"));
    ensure!(
        is_told("consumer-group-unknown") && is_told("consumer-group-denied"),
        "{said}"
    );
    Ok(())
}

/// It would contradict the active one.
async fn a_standby_is_silent(stage: &Stage, config: &str) -> Result<()> {
    let standby = stage.relay(&["--config", config]).await?;
    let (_, text) = standby.get("/metrics")?;
    let sample = text
        .lines()
        .find(|line| line.starts_with("event_consumer_lag"));
    ensure!(sample.is_none(), "a standby says {sample:?}");
    standby.stop().await?;
    Ok(())
}
