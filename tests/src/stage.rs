//! A throwaway Postgres and Kafka with an outbox between them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use testbed::{Kafka, KafkaBuilder, Postgres, PostgresBuilder, Proxy};
use tokio_postgres::{Client, NoTls};

use crate::evidence::Evidence;
use crate::relay::Relay;

/// The database with the outbox.
pub const DATABASE: &str = "app";
/// The event topics of a stage.
pub const TOPICS: [&str; 4] = [
    "transfers.settled",
    "ledger.posted",
    "compliance.flagged",
    "recon.matched",
];

/// What a stage is made of.
#[must_use]
pub struct StageBuilder {
    postgres: PostgresBuilder,
    kafka: KafkaBuilder,
    proxied: bool,
    init: bool,
}

/// Both servers, ready, with table, publication, topics and slot.
pub struct Stage {
    /// Goes first, while the servers' logs are still there.
    evidence: Evidence,
    /// The database server.
    pub postgres: Arc<Postgres>,
    /// The broker.
    pub kafka: Arc<Kafka>,
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

    /// Puts a proxy before each server. Relays go through them, everything else does not.
    pub fn proxied(mut self) -> Self {
        self.kafka = self.kafka.proxied();
        self.proxied = true;
        self
    }

    /// Leaves table, publication, topics and slot to the scenario.
    pub fn bare(mut self) -> Self {
        self.init = false;
        self
    }

    /// Starts both servers at the same time.
    pub async fn start(self) -> Result<Stage> {
        let (postgres, kafka) = (self.postgres, self.kafka);
        let postgres = tokio::task::spawn_blocking(move || postgres.start());
        let kafka = tokio::task::spawn_blocking(move || kafka.start());
        let (postgres, kafka) = (Arc::new(postgres.await??), Arc::new(kafka.await??));
        let logs = vec![postgres.log_path().to_owned(), kafka.log_path()];
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, postgres.port()));
        let postgres_proxy = self.proxied.then(|| Proxy::start(upstream)).transpose()?;
        let stage = Stage {
            evidence: Evidence::gather(logs)?,
            postgres,
            kafka,
            postgres_proxy,
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
            proxied: false,
            init: true,
        }
    }

    /// The defaults, started.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// The superuser's URL of the database with the outbox.
    pub fn url(&self) -> String {
        self.postgres.superuser_url(DATABASE)
    }

    /// The URL of the same database for relays: through the proxy, if there is one.
    pub fn relay_url(&self) -> String {
        let Some(proxy) = &self.postgres_proxy else {
            return self.url();
        };
        let at = |port: u16| format!("@{}:{port}/", self.postgres.host());
        self.url()
            .replace(&at(self.postgres.port()), &at(proxy.port()))
    }

    /// The proxy before the database server.
    pub fn postgres_proxy(&self) -> Result<&Proxy> {
        let proxy = self.postgres_proxy.as_ref();
        proxy.context("this stage has no proxies")
    }

    /// The proxy before the broker.
    pub fn kafka_proxy(&self) -> Result<&Proxy> {
        self.kafka.proxy().context("this stage has no proxies")
    }

    /// The flags that point outboxd at this stage.
    pub fn flags(&self) -> Vec<String> {
        let bootstrap = self.kafka.proxied_bootstrap();
        let bootstrap = bootstrap.unwrap_or_else(|| self.kafka.bootstrap());
        ["--postgres", &self.relay_url(), "--kafka", &bootstrap]
            .map(str::to_owned)
            .into()
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
        let mut flags = self.flags();
        flags.extend(extra.iter().map(|flag| (*flag).to_owned()));
        Relay::launch(&flags, &[], self.folder())
    }

    /// Starts a relay with these environment variables and waits until it is ready.
    pub async fn relay_with(&self, env: &[(&str, &str)]) -> Result<Relay> {
        let relay = Relay::launch(&self.flags(), env, self.folder())?;
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

/// The binary under test, built beside this program with the same profile.
pub fn outboxd() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own
        .ancestors()
        .find(|folder| folder.join("outboxd").is_file());
    let folder = folder.context("outboxd is not built: run cargo build --release -p outboxd")?;
    Ok(folder.join("outboxd"))
}
