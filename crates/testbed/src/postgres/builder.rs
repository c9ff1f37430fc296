use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::account::{self, Account};
use crate::error::{Error, OnFile, Result};
use crate::postgres::binaries::Binaries;
use crate::postgres::cluster::Cluster;
use crate::postgres::tls::Tls;
use crate::postgres::{PASSWORD, Postgres, SUPERUSER, config};
use crate::process::{OnParentDeath, guarded};
use crate::run_folder::RunFolder;
use crate::{port, tool};

const DEFAULT_VERSION: u32 = 18;
const INITDB_WITHIN: Duration = Duration::from_secs(180);
/// Somebody else may bind a port between our look and the server's bind.
const PORT_TRIES: u32 = 5;
/// `sun_path` holds 108 bytes with the final zero (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// How a throwaway Postgres shall be; each method returns the builder.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `start`"]
pub struct PostgresBuilder {
    version: u32,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    durable: bool,
    tls: bool,
    keep: bool,
}

impl PostgresBuilder {
    pub(super) fn new() -> PostgresBuilder {
        PostgresBuilder {
            version: DEFAULT_VERSION,
            settings: Vec::new(),
            hba: Vec::new(),
            durable: false,
            tls: false,
            keep: false,
        }
    }

    /// The major version, 14 to 18; 18 unless told otherwise.
    pub fn version(mut self, major: u32) -> PostgresBuilder {
        self.version = major;
        self
    }

    /// A line of `postgresql.conf`; it wins over the defaults.
    pub fn setting(mut self, name: &str, value: &str) -> PostgresBuilder {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A line of `pg_hba.conf`, before the defaults (`scram-sha-256` over TCP, `trust` over the
    /// socket) and after the superuser's own line for the socket.
    pub fn hba(mut self, line: &str) -> PostgresBuilder {
        self.hba.push(line.to_owned());
        self
    }

    /// With `fsync`, as in production. Without it data survives a killed server, but not a
    /// killed machine.
    pub fn durable(mut self) -> PostgresBuilder {
        self.durable = true;
        self
    }

    /// With TLS, as `localhost` and 127.0.0.1; see [`Postgres::ca_path`].
    pub fn tls(mut self) -> PostgresBuilder {
        self.tls = true;
        self
    }

    /// Leaves logs and data behind, as `TESTBED_KEEP=1` does for all servers.
    pub fn keep(mut self) -> PostgresBuilder {
        self.keep = true;
        self
    }

    /// Fetches the binaries if need be, makes a cluster and starts it; ready when it returns.
    ///
    /// # Errors
    /// When the binaries cannot be had, or the server does not become ready within 180 s.
    pub fn start(self) -> Result<Postgres> {
        start_on_a_free_port(self.make_cluster()?, port::free_port)
    }

    fn make_cluster(self) -> Result<Cluster> {
        let account = account::for_postgres()?;
        let binaries = Binaries::of(self.version, account.as_ref())?;
        let label = format!("pg{}", self.version);
        let folder = RunFolder::create(&label, self.keep, account.as_ref())?;
        let data = folder.path().join("data");
        let socket_dir = folder.path().join("s");
        for own in [&data, &socket_dir] {
            fs::create_dir(own).on("create", own)?;
            account::give(own, account.as_ref())?;
        }
        crate::cache::open_to_all(&socket_dir)?;
        initdb(&binaries, &folder, &data, account.as_ref())?;
        let tls = match self.tls {
            true => Some(Tls::make(&folder.path().join("tls"), account.as_ref())?),
            false => None,
        };
        config::write_settings(
            &data,
            &socket_dir,
            self.durable,
            tls.as_ref(),
            &self.settings,
        )?;
        config::write_hba(&data, &self.hba)?;
        let log = folder.path().join("postgres.log");
        let authority = tls.map(|tls| tls.authority);
        Ok(Cluster {
            binaries,
            account,
            folder,
            data,
            socket_dir,
            log,
            authority,
            port: 0,
        })
    }
}

pub(super) fn start_on_a_free_port(
    mut cluster: Cluster,
    mut free_port: impl FnMut() -> Result<u16>,
) -> Result<Postgres> {
    for _ in 0..PORT_TRIES {
        cluster.port = free_port()?;
        let socket = cluster.socket();
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(Error::SocketPathTooLong { path: socket });
        }
        match cluster.launch() {
            Ok(process) => return Ok(Postgres::running(cluster, process)),
            Err(Error::PortTaken { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::NoPort { tries: PORT_TRIES })
}

fn initdb(
    binaries: &Binaries,
    folder: &RunFolder,
    data: &Path,
    account: Option<&Account>,
) -> Result<()> {
    let password = folder.path().join("password");
    fs::write(&password, PASSWORD).on("write", &password)?;
    fs::set_permissions(&password, Permissions::from_mode(0o644)).on("open", &password)?;
    let mut command = guarded(&binaries.initdb(), account, OnParentDeath::Kill)?;
    command.arg("-D").arg(data).arg("--pwfile").arg(&password);
    command.args([
        "-U",
        SUPERUSER,
        "--auth-host=scram-sha-256",
        "--auth-local=trust",
    ]);
    command.args([
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
        "--no-instructions",
    ]);
    // A named zone spares initdb the comparison of all of them with the machine's.
    command.env("TZ", "UTC").env_remove("PGDATA");
    tool::run(command, &folder.path().join("initdb.log"), INITDB_WITHIN).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn a_port_that_was_taken_meanwhile_is_given_up_for_another() {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = other.local_addr().unwrap().port();
        let free = port::free_port().unwrap();
        let mut ports = [taken, free].into_iter();
        let cluster = PostgresBuilder::new().make_cluster().unwrap();
        let postgres = start_on_a_free_port(cluster, || Ok(ports.next().unwrap())).unwrap();
        assert_eq!(postgres.port(), free);
        postgres.sql("postgres", "SELECT 1").unwrap();
    }
}
