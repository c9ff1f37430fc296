//! An ordinary connection to the primary: for the catalog, for write-back, for retention.

use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::Client;

use super::catalog::ANSWER_PATIENCE;
use super::{error, tls};
use crate::config::{Host, HostAddr, Postgres};
use crate::failure::Failure;

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
pub struct Purpose {
    /// What it is called in messages, such as `the catalog connection`.
    pub name: &'static str,
    /// What its application name has after the replication connection's.
    pub suffix: &'static str,
    /// Settings of its session, as on the command line of the server.
    pub options: &'static str,
}

/// A connection, driven by a task of its own.
pub struct Link {
    /// Asks the server.
    pub client: Client,
    /// Set once the connection has ended, with the reason.
    pub ended: watch::Receiver<Option<Failure>>,
}

impl Link {
    /// Connects, within the connect timeout.
    pub async fn connect(
        postgres: &Postgres,
        host: &Host,
        purpose: Purpose,
    ) -> Result<Self, Failure> {
        let attempt = format!("connecting to {host}");
        let connecting = Self::open(postgres, host, purpose, &attempt);
        match tokio::time::timeout(postgres.connect_timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => {
                let message = format!("{attempt}: timed out");
                Err(Failure::new("postgres-unreachable", message))
            }
        }
    }

    async fn open(
        postgres: &Postgres,
        host: &Host,
        purpose: Purpose,
        attempt: &str,
    ) -> Result<Self, Failure> {
        let mut config = tokio_postgres::Config::new();
        match &host.host {
            HostAddr::Tcp(name) => config.host(name),
            HostAddr::Unix(folder) => config.host_path(folder),
        };
        config
            .port(host.port)
            .user(&postgres.user)
            .dbname(&postgres.database)
            .application_name(format!("{}{}", postgres.application_name, purpose.suffix))
            .options(purpose.options)
            .keepalives_idle(Duration::from_secs(10))
            .tcp_user_timeout(ANSWER_PATIENCE);
        if postgres.password.is_some() {
            config.password(postgres.current_password().expose());
        }
        let name = purpose.name;
        let (ended_tx, ended) = watch::channel(None);
        let client = tls::connect(&config, postgres, host, attempt, move |result| {
            let failure = match result {
                Ok(()) => Failure::new("postgres-lost", format!("{name} was closed")),
                Err(e) => error::catalog(&format!("{name} broke"), &e),
            };
            let _ = ended_tx.send(Some(failure));
        })
        .await?;
        Ok(Self { client, ended })
    }
}
