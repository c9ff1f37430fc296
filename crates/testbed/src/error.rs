use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What can go wrong while servers are fetched, started, driven and stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program that the testbed runs is not on this machine.
    #[error("{tool} is not installed; {remedy}, or run `make deps`")]
    MissingTool {
        /// The program looked for.
        tool: String,
        /// What to install.
        remedy: &'static str,
    },
    /// Kafka's broker does not run on this Java.
    #[error(
        "java {found} is too old for Kafka, which needs {needed}; \
         install openjdk-17-jre-headless or newer, or point JAVA_HOME to one"
    )]
    OldJava {
        /// The major version found, or the text that could not be read as one.
        found: String,
        /// The lowest major version that works.
        needed: u32,
    },
    /// A file or folder could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The user that Postgres runs as cannot enter a folder that root chose.
    #[error(
        "user {user} cannot read {}, and Postgres refuses to run as root; \
         choose a world-readable folder",
        path.display()
    )]
    Unreachable {
        /// The user that Postgres would run as.
        user: String,
        /// The folder.
        path: PathBuf,
    },
    /// No user on this machine can run Postgres on behalf of root.
    #[error("running as root, and neither user `postgres` nor `nobody` exists to run Postgres as")]
    NoServerUser,
    /// The run folder is so deep that a Unix socket in it could not be opened.
    #[error("socket path {} is longer than 107 bytes; set TMPDIR to a shorter path", path.display())]
    SocketPathTooLong {
        /// The path of the socket.
        path: PathBuf,
    },
    /// A program could not be started.
    #[error("cannot run {program}")]
    Spawn {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program ended with a failure, or a server ended by itself.
    #[error("{program} ended with {status}; the end of its output:\n{tail}")]
    Failed {
        /// The program or server.
        program: String,
        /// Its exit status in words.
        status: String,
        /// The last lines that it wrote.
        tail: String,
    },
    /// Something did not happen in time.
    #[error("{what} took longer than {within:?}; the end of its output:\n{tail}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// The bound.
        within: Duration,
        /// The last lines of the log.
        tail: String,
    },
    /// The server is stopped.
    #[error("{server} is not running")]
    NotRunning {
        /// Which one.
        server: String,
    },
    /// The server runs, so it cannot be started.
    #[error("{server} is already running")]
    AlreadyRunning {
        /// Which one.
        server: String,
    },
    /// This version is not among those that the testbed knows.
    #[error("Postgres {major} is not known here; known are 14 to 18")]
    UnknownPostgres {
        /// The major version asked for.
        major: u32,
    },
    /// No binaries are published for this processor.
    #[error("there are no Postgres binaries for {arch}; install postgresql-{major} instead")]
    UnknownPlatform {
        /// The processor, as Rust names it.
        arch: &'static str,
        /// The major version asked for.
        major: u32,
    },
    /// A connection to a server failed.
    #[error("connection to {server} failed while {during}")]
    Connection {
        /// Which server.
        server: String,
        /// What was attempted.
        during: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Postgres refused a statement or a connection.
    #[error("Postgres answered {code}: {message}")]
    Sql {
        /// SQLSTATE.
        code: String,
        /// The primary message.
        message: String,
    },
    /// Somebody else listens on the server's port.
    #[error("the port of {server} is taken by another process")]
    PortTaken {
        /// Which server.
        server: String,
    },
    /// No free port was found, or each one was taken before the server could bind it.
    #[error("no free TCP port after {tries} tries")]
    NoPort {
        /// How many were tried.
        tries: u32,
    },
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Names the file in an [`io::Error`].
pub(crate) trait OnFile<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> OnFile<T> for io::Result<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::File {
            action,
            path: path.to_owned(),
            source,
        })
    }
}
