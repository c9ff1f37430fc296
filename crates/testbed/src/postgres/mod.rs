//! A throwaway Postgres cluster with one server.

mod binaries;
mod builder;
mod cluster;
mod config;
mod copy;
mod session;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

pub use builder::PostgresBuilder;
pub use copy::DataCopy;
pub use session::Row;

use crate::authority::Authority;
use crate::error::{Error, Result};
use crate::process::ServerProcess;
use crate::server::Server;
use crate::tool;
use cluster::Cluster;
use session::Session;

/// The superuser that `initdb` creates.
pub const SUPERUSER: &str = "postgres";
/// The superuser's password, and the one that [`Postgres::url`] assumes for every role.
pub const PASSWORD: &str = "outboxd";

const STOP_WITHIN: Duration = Duration::from_secs(30);
const DROP_WITHIN: Duration = Duration::from_secs(5);
const SQL_WITHIN: Duration = Duration::from_secs(300);

/// How a server is asked to stop (the manual's "Shutting Down the Server").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// SIGTERM: waits until all clients have left.
    Smart,
    /// SIGINT: ends sessions, then waits for walsenders to have sent everything.
    Fast,
    /// SIGQUIT: no clean end; the next start recovers.
    Immediate,
}

/// A running, stopped or killed Postgres of its own; ends and vanishes with this value.
///
/// All methods take `&self`, so one thread can disturb the server that others use.
#[derive(Debug)]
pub struct Postgres {
    cluster: Cluster,
    server: Server,
}

impl Postgres {
    /// Starts the default: Postgres 18, `wal_level=logical`, no fsync.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::new()
    }

    fn running(cluster: Cluster, process: ServerProcess) -> Postgres {
        Postgres {
            server: Server::of(cluster.name(), cluster.log.clone(), process),
            cluster,
        }
    }

    /// The TCP port on [`Postgres::host`]; the same after every restart.
    pub fn port(&self) -> u16 {
        self.cluster.port
    }

    /// The TCP address that it listens on.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// Host and port, as a [`crate::Proxy`] wants them.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.cluster.port))
    }

    /// The folder of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.cluster.socket_dir
    }

    /// The data directory. Its files belong to the user that the server runs as.
    pub fn data_dir(&self) -> &Path {
        &self.cluster.data
    }

    /// The server's log; it grows over restarts.
    pub fn log_path(&self) -> &Path {
        &self.cluster.log
    }

    /// The certificate authority that signed the server's certificate, if built with TLS.
    pub fn ca_path(&self) -> Option<PathBuf> {
        self.authority().map(Authority::certificate)
    }

    /// The certificate authority itself, if built with TLS: clients' certificates count as well.
    pub fn authority(&self) -> Option<&Authority> {
        self.cluster.authority.as_deref()
    }

    /// A connection URL over TCP with [`PASSWORD`]. Both names must be plain identifiers.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!(
            "postgres://{user}:{PASSWORD}@{}:{}/{database}",
            self.host(),
            self.port()
        )
    }

    /// The superuser's connection URL over TCP.
    pub fn superuser_url(&self, database: &str) -> String {
        self.url(SUPERUSER, database)
    }

    /// The postmaster's process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.current().ok().map(|process| process.pid())
    }

    /// Runs SQL text as the superuser on a connection of its own through the socket; several
    /// statements are one transaction. Returns the rows of the last statement that has any.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses, or does not answer within 300 s.
    pub fn sql(&self, database: &str, sql: &str) -> Result<Vec<Row>> {
        Session::open(&self.cluster.socket(), database, SQL_WITHIN)?.run(sql)
    }

    /// Asks the server to stop and returns how long that took; at most 30 s.
    ///
    /// # Errors
    /// When it does not run, or has not stopped in time; then it goes on stopping.
    pub fn stop(&self, mode: StopMode) -> Result<Duration> {
        self.stop_within(mode, STOP_WITHIN)
    }

    /// As [`Postgres::stop`], with another bound.
    ///
    /// # Errors
    /// As [`Postgres::stop`].
    pub fn stop_within(&self, mode: StopMode, within: Duration) -> Result<Duration> {
        let process = self.server.current()?;
        let asked = Instant::now();
        process.resume_tree();
        process.signal(match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        });
        let ended = process.wait(within).map(|_| asked.elapsed());
        ended.ok_or_else(|| Error::Timeout {
            what: format!("{mode:?} stop of {}", self.cluster.name()),
            within,
            tail: tool::log_tail(&self.cluster.log),
        })
    }

    /// Starts a stopped or killed server with the same data and port; ready when it returns.
    ///
    /// # Errors
    /// When it runs already, or does not become ready within 180 s.
    pub fn start_again(&self) -> Result<()> {
        self.server.start_again(|| self.cluster.launch())
    }

    /// Stops and starts again.
    ///
    /// # Errors
    /// As [`Postgres::stop`] and [`Postgres::start_again`].
    pub fn restart(&self, mode: StopMode) -> Result<()> {
        self.stop(mode)?;
        self.start_again()
    }

    /// SIGKILL to the postmaster and all its processes at once; none is left when it returns.
    ///
    /// # Errors
    /// When it does not run, or a process is still there after 10 s.
    pub fn kill9(&self) -> Result<()> {
        self.server.kill9()
    }

    /// SIGSTOP to all its processes: connections stay open and nobody answers.
    ///
    /// # Errors
    /// When it does not run, or has not stopped after 10 s.
    pub fn pause(&self) -> Result<()> {
        self.server.pause()
    }

    /// SIGCONT to all its processes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.server.resume()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Ok(process) = self.server.current() {
            process.resume_tree();
            process.signal(Signal::QUIT);
            if process.wait(DROP_WITHIN).is_none() {
                process.kill_tree();
            }
        }
        self.cluster.release_shared_memory();
    }
}
