//! How to reach the database and which slot and publication to read.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::secret::Secret;

/// One database, its replication slot and its publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// Servers to try, in this order. Never empty after loading.
    pub hosts: Vec<Host>,
    /// Role that connects; it needs REPLICATION.
    pub user: String,
    /// Its password, if it needs one.
    pub password: Option<Secret>,
    /// Who writes states back and removes old rows, if it is not `user`.
    pub write_back: Option<Login>,
    /// Database that holds the outbox tables.
    pub database: String,
    /// Name under which the sessions appear in `pg_stat_activity`.
    pub application_name: String,
    /// How the connection is encrypted and the server verified.
    pub sslmode: SslMode,
    /// PEM file of the authorities to trust; `None` means the well-known public ones.
    pub sslrootcert: Option<PathBuf>,
    /// PEM file of the client certificate; given together with `sslkey`.
    pub sslcert: Option<PathBuf>,
    /// PEM file of the client key.
    pub sslkey: Option<PathBuf>,
    /// Replication slot: `[a-z0-9_]`, 1 to 63 characters, unique in the cluster.
    pub slot: String,
    /// Publication: any identifier, to be quoted wherever it is used.
    pub publication: String,
    /// Whether the slot is made a failover slot, where the server can (17 and later).
    pub failover_slot: bool,
    /// Time allowed for connecting to one host.
    pub connect_timeout: Duration,
    /// `wal_sender_timeout` of the replication session: silence for that long ends it.
    pub wal_sender_timeout: Duration,
}

/// A role that connects, and its password, if it needs one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
}

impl Postgres {
    /// For connections that change rows of the outbox: with the role that is meant for that.
    pub fn for_write_back(&self) -> Self {
        let mut writing = self.clone();
        if let Some(Login { user, password }) = &self.write_back {
            writing.user = user.clone();
            writing.password = password.clone();
        }
        writing
    }

    /// The password as it is now; empty without one.
    pub fn current_password(&self) -> Secret {
        let known = self.password.as_ref();
        known.map_or_else(|| Secret::new(""), Secret::current)
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            hosts: vec![Host::default()],
            user: "outboxd".into(),
            password: None,
            write_back: None,
            database: "outboxd".into(),
            application_name: "outboxd".into(),
            sslmode: SslMode::Disable,
            sslrootcert: None,
            sslcert: None,
            sslkey: None,
            slot: "outboxd".into(),
            publication: "outboxd".into(),
            failover_slot: true,
            connect_timeout: Duration::from_secs(5),
            wal_sender_timeout: Duration::from_secs(10),
        }
    }
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// Where it listens.
    pub host: HostAddr,
    /// Its port; for a Unix socket the number in the socket's name.
    pub port: u16,
}

/// The port of a server that does not say otherwise.
pub const DEFAULT_PORT: u16 = 5432;

impl Default for Host {
    fn default() -> Self {
        Self {
            host: HostAddr::Tcp("localhost".into()),
            port: DEFAULT_PORT,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostAddr::Tcp(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            HostAddr::Tcp(name) => write!(f, "{name}:{}", self.port),
            HostAddr::Unix(folder) => write!(f, "{}:{}", folder.display(), self.port),
        }
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostAddr {
    /// A name or an address, without brackets.
    Tcp(String),
    /// The folder that holds the socket `.s.PGSQL.<port>`.
    Unix(PathBuf),
}

impl HostAddr {
    /// Whether a connection stays on this machine: a Unix socket, `localhost` or a loopback
    /// address.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(name) => {
                let name = name.trim_end_matches('.');
                name.eq_ignore_ascii_case("localhost")
                    || name
                        .parse()
                        .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
        }
    }
}

/// How the connection is encrypted and the server verified. There is no `allow` and no `prefer`:
/// both fall back to plain text when somebody in the middle refuses TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Plain text. The default when every host is local.
    Disable,
    /// Encrypted, the server not verified.
    Require,
    /// Encrypted, the server's certificate verified, its name not.
    VerifyCa,
    /// Encrypted, certificate and name verified. The default when a host is remote.
    VerifyFull,
}
