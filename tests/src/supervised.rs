//! A process under a supervisor: whoever kills it, it is started again.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::Program;

const STOP_WITHIN: Duration = Duration::from_secs(30);
/// One that ends by itself shall not be started again and again without a pause.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// How to start it.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub binary: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// What it prints is appended here.
    pub log: PathBuf,
}

/// A running program; it ends with this value.
pub struct Supervised {
    launch: Launch,
    program: Program,
}

impl Launch {
    fn start(&self) -> Result<Program> {
        let env = self.env.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let env: Vec<_> = env.collect();
        Ok(Program::start(&self.binary, &self.args, &env, &self.log)?)
    }
}

impl Supervised {
    /// Starts it.
    pub fn start(launch: Launch) -> Result<Self> {
        let program = launch.start()?;
        Ok(Self { launch, program })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Where it writes.
    pub fn log(&self) -> &Path {
        &self.launch.log
    }

    /// What it has written, over all of its lives.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Whether it has ended, and nobody has started it again yet.
    pub fn has_ended(&self) -> bool {
        self.program.exit_status().is_some()
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
        self.program = self.launch.start()?;
        Ok(Some(ending(status)))
    }

    /// SIGTERM; says how it ended, which must be in order.
    pub fn stop(self) -> Result<String> {
        let name = self.launch.binary.display();
        let ended = self.program.terminate(STOP_WITHIN);
        let (status, took) = ended.with_context(|| format!("{name} did not end after SIGTERM"))?;
        let (ending, log) = (ending(status), self.log_text());
        ensure!(status.success(), "{name} ended with {ending}\n{log}");
        Ok(format!("{ending} after {} ms", took.as_millis()))
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
