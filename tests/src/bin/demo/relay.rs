//! The relay under a supervisor: whoever kills it, it is started again at the same address.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use scenarios::relay::http_get;
use scenarios::stage;
use testbed::{PASSWORD, Program};

const POLL: Duration = Duration::from_millis(50);
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// One that ends by itself shall not be started again and again without a pause.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// `outboxd run`; it ends with this value.
pub struct Relay {
    binary: PathBuf,
    args: Vec<String>,
    admin: SocketAddr,
    log: PathBuf,
    program: Program,
}

impl Relay {
    /// Starts it between these servers, its log in a file of `folder`.
    pub fn start(postgres: &str, kafka: &str, folder: &Path) -> Result<Relay> {
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, testbed::free_port()?));
        let listen = admin.to_string();
        let args = ["run", "--postgres", postgres, "--kafka", kafka];
        let shown = ["--admin-listen", &listen, "--log-format", "text"];
        let args: Vec<String> = args.into_iter().chain(shown).map(str::to_owned).collect();
        let (binary, log) = (stage::outboxd()?, folder.join("relay.log"));
        let program = launch(&binary, &args, &log)?;
        Ok(Relay {
            binary,
            args,
            admin,
            log,
            program,
        })
    }

    /// Where its admin endpoints are.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until /ready says 200.
    pub fn await_ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while self.get("/ready").ok() != Some(200) {
            if self.program.exit_status().is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("the relay did not become ready:\n{log}");
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// The status code of an admin endpoint.
    pub fn get(&self, path: &str) -> Result<u16> {
        http_get(self.admin, path).map(|(code, _)| code)
    }

    /// SIGKILL, which leaves it no time for anything.
    pub fn kill9(&self) {
        self.program.kill9();
    }

    /// Starts it again if it has ended; says how it had.
    pub fn keep_alive(&mut self) -> Result<Option<String>> {
        let Some(status) = self.program.exit_status() else {
            return Ok(None);
        };
        if status.signal().is_none() {
            thread::sleep(RESTART_PAUSE);
        }
        self.program = launch(&self.binary, &self.args, &self.log)?;
        Ok(Some(ending(status)))
    }

    /// SIGTERM; says how it ended.
    pub fn stop(self) -> Result<String> {
        let ended = self.program.terminate(STOP_WITHIN);
        let (status, took) = ended.context("the relay did not end after SIGTERM")?;
        Ok(format!("{} after {} ms", ending(status), took.as_millis()))
    }
}

fn launch(binary: &Path, args: &[String], log: &Path) -> Result<Program> {
    Ok(Program::start(
        binary,
        args,
        &[("PGPASSWORD", PASSWORD)],
        log,
    )?)
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
