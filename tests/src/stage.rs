//! A throwaway Postgres and Kafka with an outbox between them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use testbed::{Kafka, KafkaBuilder, Postgres, PostgresBuilder, Proxy};
use tokio_postgres::{Client, NoTls};

use crate::evidence::Evidence;
use crate::relay::Relay;
use crate::wait;

/// The database with the outbox.
pub const DATABASE: &str = "app";
/// The event topics of a stage.
pub const TOPICS: [&str; 4] = [
    "transfers.settled",
    "ledger.posted",
    "compliance.flagged",
    "recon.matched",
];

/// An event type that routing refuses.
pub const UNROUTABLE: &str = "elsewhere.sent";
/// Where the events of a stage go that can't be published.
pub const DEAD_LETTERS: &str = "outbox.dead-letter";

const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(90);

/// The optimizing compiler rests once it has used less than this of a core for that long.
const COMPILING_SHARE: f64 = 0.1;
const COMPILED_FOR: Duration = Duration::from_secs(5);

/// What a stage is made of.
#[must_use]
pub struct StageBuilder {
    postgres: PostgresBuilder,
    kafka: KafkaBuilder,
    brokers: u32,
    proxied: bool,
    init: bool,
}

/// Both servers, ready, with table, publication, topics and slot.
pub struct Stage {
    /// Goes first, while the servers' logs are still there.
    evidence: Evidence,
    /// The database server.
    pub postgres: Arc<Postgres>,
    /// The first broker.
    pub kafka: Arc<Kafka>,
    /// All brokers.
    pub brokers: Vec<Arc<Kafka>>,
    postgres_proxy: Option<Proxy>,
}

impl StageBuilder {
    /// Changes the database server.
    pub fn postgres(mut self, change: impl FnOnce(PostgresBuilder) -> PostgresBuilder) -> Self {
        self.postgres = change(self.postgres);
        self
    }

    /// Changes the broker.
    pub fn kafka(mut self, change: impl FnOnce(KafkaBuilder) -> KafkaBuilder) -> Self {
        self.kafka = change(self.kafka);
        self
    }

    /// A cluster of so many brokers: replication factor 3, two replicas in sync, if there are three.
    pub fn brokers(mut self, brokers: u32) -> Self {
        self.brokers = brokers;
        self
    }

    /// The relay reaches all servers through proxies; everybody else goes past them.
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self.kafka = self.kafka.proxied();
        self
    }

    /// A broker that an overloaded machine does not cut off from itself, for scenarios that leave it
    /// alone: one that is killed would have to wait as long before it may come back.
    pub fn patient(self) -> Self {
        self.kafka(|k| k.setting("broker.session.timeout.ms", "60000"))
    }

    /// A broker as it runs in production, with both compilers, for scenarios that measure: it is faster once it
    /// is warm, and slower until then ([`Stage::compiled`]).
    pub fn warm(self) -> Self {
        self.kafka(|k| k.jvm("-XX:TieredStopAtLevel=4"))
    }

    /// Leaves table, publication, topics and slot to the scenario.
    pub fn bare(mut self) -> Self {
        self.init = false;
        self
    }

    /// Starts both servers at the same time.
    pub async fn start(self) -> Result<Stage> {
        let (postgres, kafka, count) = (self.postgres, self.kafka, self.brokers);
        let postgres = tokio::task::spawn_blocking(move || postgres.start());
        let kafka = tokio::task::spawn_blocking(move || kafka.start_cluster(count));
        let (postgres, cluster) = (Arc::new(postgres.await??), kafka.await??);
        let brokers: Vec<_> = cluster.into_brokers().into_iter().map(Arc::new).collect();
        let mut logs: Vec<_> = brokers.iter().map(|broker| broker.log_path()).collect();
        logs.push(postgres.log_path().to_owned());
        let postgres_proxy = self.proxied.then(|| Proxy::start(postgres.addr()));
        let stage = Stage {
            evidence: Evidence::gather(logs)?,
            postgres,
            kafka: Arc::clone(brokers.first().context("no broker")?),
            brokers,
            postgres_proxy: postgres_proxy.transpose()?,
        };
        stage.postgres.sql("postgres", "CREATE DATABASE app")?;
        if self.init {
            stage.init(&[])?;
        }
        Ok(stage)
    }
}

impl Stage {
    /// Postgres 18 and Kafka with defaults.
    pub fn builder() -> StageBuilder {
        StageBuilder {
            postgres: Postgres::builder(),
            kafka: Kafka::builder(),
            brokers: 1,
            proxied: false,
            init: true,
        }
    }

    /// Waits until the first broker has compiled what it runs often, under the load that is there.
    pub async fn compiled(&self, within: Duration) -> Result<Duration> {
        let pid = self.kafka.pid().context("no broker runs")?;
        wait::until("the broker's compiler rests", within, async || {
            let used = || testbed::threads_cpu_seconds(pid, "C2 CompilerThre");
            let before = used()?;
            ensure!(before > 0.0, "the broker has no optimizing compiler");
            tokio::time::sleep(COMPILED_FOR).await;
            // Threads of the compiler come and go.
            let share = (used()? - before).abs() / COMPILED_FOR.as_secs_f64();
            Ok(share < COMPILING_SHARE)
        })
        .await
    }

    /// The defaults, started.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// The superuser's URL of the database with the outbox.
    pub fn url(&self) -> String {
        self.postgres.superuser_url(DATABASE)
    }

    /// The flags that point outboxd at this stage, past any proxies.
    pub fn flags(&self) -> Vec<String> {
        point_at(&self.url(), &self.bootstrap())
    }

    /// The flags that point a relay at this stage, through the proxies if it has them.
    pub fn relay_flags(&self) -> Vec<String> {
        let proxied: Option<Vec<String>> =
            self.brokers.iter().map(|b| b.proxied_bootstrap()).collect();
        let bootstrap = proxied.map_or_else(|| self.bootstrap(), |all| all.join(","));
        point_at(&self.relay_url(), &bootstrap)
    }

    /// The URL of the same database for relays: through the proxy, if there is one.
    pub fn relay_url(&self) -> String {
        let at = |port: u16| format!(":{port}/");
        match &self.postgres_proxy {
            Some(proxy) => self
                .url()
                .replace(&at(self.postgres.port()), &at(proxy.port())),
            None => self.url(),
        }
    }

    /// The proxy before the database server.
    pub fn postgres_proxy(&self) -> Result<&Proxy> {
        let proxy = self.postgres_proxy.as_ref();
        proxy.context("this stage has no proxies")
    }

    /// The proxy before the first broker.
    pub fn kafka_proxy(&self) -> Result<&Proxy> {
        self.kafka.proxy().context("this stage has no proxies")
    }

    /// All brokers, separated by commas.
    pub fn bootstrap(&self) -> String {
        let all: Vec<String> = self.brokers.iter().map(|b| b.bootstrap()).collect();
        all.join(",")
    }

    /// Runs `outboxd init --apply`.
    pub fn init(&self, extra: &[&str]) -> Result<()> {
        let mut args = vec!["init".to_owned(), "--apply".to_owned()];
        args.extend(self.flags());
        for topic in TOPICS {
            args.extend(["--topic".to_owned(), topic.to_owned()]);
        }
        args.extend(extra.iter().map(|arg| (*arg).to_owned()));
        let output = Command::new(outboxd()?).args(&args).output()?;
        if !output.status.success() {
            bail!(
                "outboxd init failed:\n{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    /// Starts a relay and waits until it is ready.
    pub async fn relay(&self, extra: &[&str]) -> Result<Relay> {
        let relay = self.launch(extra)?;
        relay.ready().await?;
        Ok(relay)
    }

    /// Starts a relay, however that goes on.
    pub fn launch(&self, extra: &[&str]) -> Result<Relay> {
        self.launch_with(extra, &[])
    }

    /// As `launch`, with variables in its environment.
    pub fn launch_with(&self, extra: &[&str], env: &[(&str, &str)]) -> Result<Relay> {
        let mut flags = self.relay_flags();
        flags.extend(extra.iter().map(|flag| (*flag).to_owned()));
        Relay::launch(&flags, env, self.folder())
    }

    /// Starts a relay with these environment variables and waits until it is ready.
    pub async fn relay_with(&self, env: &[(&str, &str)]) -> Result<Relay> {
        let relay = self.launch_with(&[], env)?;
        relay.ready().await?;
        Ok(relay)
    }

    /// A folder that goes with the stage, unless the run fails.
    pub fn folder(&self) -> &Path {
        self.evidence.folder()
    }

    /// A connection to the database with the outbox.
    pub async fn client(&self) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Commits so many events, each in a transaction of its own.
    pub fn insert(&self, events: u32) -> Result<()> {
        let sql = format!(
            "DO $$ BEGIN FOR i IN 1..{events} LOOP \
               INSERT INTO outbox (event_type, transfer_id, payload) \
               VALUES ('transfers.settled', 't-' || i % 7, '{{}}'); COMMIT; \
             END LOOP; END $$"
        );
        self.postgres.sql(DATABASE, &sql)?;
        Ok(())
    }

    /// How far the relay's slot is confirmed; empty without a slot.
    pub fn confirmed(&self) -> Result<String> {
        self.value(
            "SELECT coalesce(max(confirmed_flush_lsn)::text, '') FROM pg_replication_slots \
             WHERE slot_name = 'outboxd'",
        )
    }

    /// Waits until this relay has confirmed everything that is committed now.
    pub async fn caught_up(&self, relay: &Relay) -> Result<()> {
        let end = self.value("SELECT pg_current_wal_insert_lsn()")?;
        let confirmed = format!(
            "SELECT count(*) FROM pg_replication_slots \
             WHERE slot_name = 'outboxd' AND confirmed_flush_lsn >= '{end}'"
        );
        wait::until("everything is confirmed", CAUGHT_UP_WITHIN, async || {
            Ok(self.value(&confirmed)? == "1")
        })
        .await
        .with_context(|| relay.log_text())?;
        Ok(())
    }

    /// Waits until nobody streams from a slot: the server's part of a session ends a moment after the
    /// relay.
    pub async fn slot_free(&self) -> Result<()> {
        wait::until("the slot is free", CAUGHT_UP_WITHIN, async || {
            Ok(self.value("SELECT count(*) FROM pg_replication_slots WHERE active")? == "0")
        })
        .await?;
        Ok(())
    }

    /// Drops the slot of a relay that has ended.
    pub async fn drop_slot(&self) -> Result<()> {
        self.slot_free().await?;
        let dropped = "SELECT count(pg_drop_replication_slot(slot_name)) \
                       FROM pg_replication_slots WHERE slot_name = 'outboxd'";
        ensure!(self.value(dropped)? == "1", "there is no slot to drop");
        Ok(())
    }

    /// The first column of the first row.
    pub fn value(&self, sql: &str) -> Result<String> {
        let rows = self.postgres.sql(DATABASE, sql)?;
        let value = rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next().flatten());
        value.with_context(|| format!("{sql}: no value"))
    }
}

fn point_at(postgres: &str, kafka: &str) -> Vec<String> {
    ["--postgres", postgres, "--kafka", kafka]
        .map(str::to_owned)
        .into()
}

/// The binary under test, built beside this program with the same profile.
pub fn outboxd() -> Result<PathBuf> {
    built("outboxd")
}

/// An example of one of the libraries.
pub fn example(name: &str) -> Result<PathBuf> {
    built(&format!("examples/{name}"))
}

fn built(program: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mut candidates = own.ancestors().map(|folder| folder.join(program));
    let found = candidates.find(|path| path.is_file());
    found.with_context(|| format!("{program} is not built: run make build-all"))
}
