//! File-level copies of a stopped server: put back in its place, or started as a standby of it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::account::{self, Account};
use crate::error::{Error, OnFile, Result};
use crate::postgres::cluster::Cluster;
use crate::postgres::{PASSWORD, Postgres, SUPERUSER, builder, config};
use crate::process::{OnParentDeath, guarded};
use crate::run_folder::RunFolder;
use crate::{port, tool};

const COPY_WITHIN: Duration = Duration::from_secs(120);
/// The physical slot that a standby streams from.
const STANDBY_SLOT: &str = "standby";

/// A copy of a server's data directory, as a backup tool or a disk snapshot leaves one.
#[derive(Debug)]
pub struct DataCopy {
    folder: RunFolder,
}

impl DataCopy {
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Postgres {
    /// Copies the data directory of this server, which must have been stopped.
    ///
    /// # Errors
    /// When it runs, or the files can't be copied.
    pub fn copy(&self) -> Result<DataCopy> {
        self.require_stopped()?;
        let account = self.cluster.account.as_ref();
        let folder = RunFolder::create("copy", false, account)?;
        let copy = DataCopy { folder };
        copy_tree(&self.cluster.data, &copy.data(), copy.folder.path())?;
        Ok(copy)
    }

    /// Puts a copy in the place of the data directory of this server, which must have been
    /// stopped. What was written since the copy is gone, as after a restore without its WAL.
    ///
    /// # Errors
    /// As [`Postgres::copy`].
    pub fn restore(&self, copy: &DataCopy) -> Result<()> {
        self.require_stopped()?;
        let data = &self.cluster.data;
        fs::remove_dir_all(data).on("remove", data)?;
        copy_tree(&copy.data(), data, self.cluster.folder.path())
    }

    /// Starts a hot standby of this server, which must run, from a copy of it. It streams through
    /// a physical slot, and may synchronise failover slots (17 and later). The copied logical slots
    /// are left out, as base backups leave them out.
    ///
    /// # Errors
    /// When this server does not run, or the standby does not become ready within 180 s.
    pub fn standby(&self, copy: &DataCopy) -> Result<Postgres> {
        let slot = format!("SELECT pg_create_physical_replication_slot('{STANDBY_SLOT}', true)");
        self.sql("postgres", &slot)?;
        let origin = &self.cluster;
        let account = origin.account.as_ref();
        let folder = RunFolder::create("standby", false, account)?;
        let data = folder.path().join("data");
        let socket_dir = folder.path().join("s");
        fs::create_dir(&socket_dir).on("create", &socket_dir)?;
        account::give(&socket_dir, account)?;
        crate::cache::open_to_all(&socket_dir)?;
        copy_tree(&copy.data(), &data, folder.path())?;
        self.follow(&data, &socket_dir, account)?;
        let log = folder.path().join("postgres.log");
        builder::start_on_a_free_port(
            Cluster {
                binaries: origin.binaries.clone(),
                account: origin.account.clone(),
                folder,
                data,
                socket_dir,
                log,
                authority: origin.authority.clone(),
                port: 0,
            },
            port::free_port,
        )
    }

    /// Makes a copied data directory a standby of this server.
    fn follow(&self, data: &Path, socket_dir: &Path, account: Option<&Account>) -> Result<()> {
        let slots = data.join("pg_replslot");
        for slot in fs::read_dir(&slots).on("read", &slots)?.flatten() {
            fs::remove_dir_all(slot.path()).on("remove", &slot.path())?;
        }
        // Synchronising slots needs a database in the connection string.
        let primary = format!(
            "host={} port={} user={SUPERUSER} password={PASSWORD} dbname=postgres",
            self.host(),
            self.port()
        );
        let settings = [
            ("unix_socket_directories", &*socket_dir.to_string_lossy()),
            ("primary_conninfo", &primary),
            ("primary_slot_name", STANDBY_SLOT),
            ("hot_standby_feedback", "on"),
            // A cut-off standby asks again at once.
            ("wal_retrieve_retry_interval", "100ms"),
        ];
        let path = data.join("postgresql.conf");
        let mut file = OpenOptions::new()
            .append(true)
            .open(&path)
            .on("open", &path)?;
        for (name, value) in settings {
            let line = config::setting(name, value);
            file.write_all(line.as_bytes()).on("write", &path)?;
        }
        let signal = data.join("standby.signal");
        fs::write(&signal, "").on("write", &signal)?;
        account::give(&signal, account)
    }

    fn require_stopped(&self) -> Result<()> {
        match self.server.current() {
            Ok(_) => Err(Error::AlreadyRunning {
                server: self.cluster.name(),
            }),
            Err(_) => Ok(()),
        }
    }
}

/// With owners and modes: Postgres refuses a data directory that is not its own.
fn copy_tree(from: &Path, to: &Path, log_folder: &Path) -> Result<()> {
    let mut command = guarded(&tool::find("cp")?, None, OnParentDeath::Kill)?;
    command.arg("-a").arg(from).arg(to);
    tool::run(command, &log_folder.join("cp.log"), COPY_WITHIN).map(drop)
}
