//! The parts of a cluster that stay while its server comes and goes.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::authority::Authority;
use crate::error::{Error, Result};
use crate::log::LogPart;
use crate::postgres::binaries::Binaries;
use crate::postgres::session::Session;
use crate::process::{OnParentDeath, ServerProcess, guarded};
use crate::run_folder::RunFolder;
use crate::tool;
use crate::wait::wait_for;

/// Long enough for crash recovery on a loaded machine.
const READY_WITHIN: Duration = Duration::from_secs(180);
const PROBE_WITHIN: Duration = Duration::from_secs(5);
/// SQLSTATE `cannot_connect_now`: starting up, shutting down, or in recovery.
const CANNOT_CONNECT_NOW: &str = "57P03";

#[derive(Debug)]
pub(crate) struct Cluster {
    pub binaries: Binaries,
    pub account: Option<Account>,
    pub folder: RunFolder,
    pub data: PathBuf,
    pub socket_dir: PathBuf,
    pub log: PathBuf,
    pub authority: Option<Arc<Authority>>,
    pub port: u16,
}

impl Cluster {
    pub fn socket(&self) -> PathBuf {
        self.socket_dir.join(format!(".s.PGSQL.{}", self.port))
    }

    pub fn name(&self) -> String {
        format!("Postgres at {}", self.folder.path().display())
    }

    /// Starts a server and waits until it accepts connections.
    pub fn launch(&self) -> Result<ServerProcess> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match self.launch_once() {
                // Backends of a killed postmaster need a moment to notice that they are alone.
                Err(Error::Failed { tail, .. })
                    if tail.contains("pre-existing shared memory block")
                        && Instant::now() < deadline => {}
                outcome => return outcome,
            }
        }
    }

    fn launch_once(&self) -> Result<ServerProcess> {
        let account = self.account.as_ref();
        let mut command = guarded(&self.binaries.postgres(), account, OnParentDeath::Quit)?;
        command
            .arg("-D")
            .arg(&self.data)
            .arg("-p")
            .arg(self.port.to_string())
            .env("TZ", "UTC");
        let log = LogPart::attach(&self.log, &mut command)?;
        let process = ServerProcess::spawn(command)?;
        self.wait_until_ready(&process, &log).map(|()| process)
    }

    fn wait_until_ready(&self, process: &ServerProcess, log: &LogPart) -> Result<()> {
        let answer = wait_for(READY_WITHIN, || match process.exit_status() {
            Some(status) => Some(Err(process.early_end(self.name(), status, log))),
            None => self.accepts_connections().then_some(Ok(())),
        });
        answer.unwrap_or_else(|| {
            let what = format!("start of {}", self.name());
            Err(Error::Timeout {
                what,
                within: READY_WITHIN,
                tail: log.tail(),
            })
        })
    }

    fn accepts_connections(&self) -> bool {
        match Session::open(&self.socket(), "postgres", PROBE_WITHIN) {
            Ok(_) => true,
            Err(Error::Sql { code, .. }) => code != CANNOT_CONNECT_NOW,
            Err(_) => false,
        }
    }

    /// Frees the System V segment of a server that had no chance to do so.
    ///
    /// Line 7 of `postmaster.pid`, which only a clean end removes, has its key and id
    /// (`src/include/utils/pidfile.h`). The machine has a small number of these segments.
    pub fn release_shared_memory(&self) {
        let pid_file = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let id = pid_file
            .lines()
            .nth(6)
            .and_then(|line| line.split_whitespace().nth(1));
        if let (Some(id), Ok(ipcrm)) = (id, tool::find("ipcrm")) {
            let mut command = Command::new(ipcrm);
            command
                .args(["-m", id])
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let _ = command.status();
        }
    }
}
