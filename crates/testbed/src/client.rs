//! A process under test: guarded like the servers, its output in a file.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::error::{Error, Result};
use crate::process::{OnParentDeath, ServerProcess, guarded};

/// A program that ends with this process, whatever ends it.
#[derive(Debug)]
pub struct Program {
    process: ServerProcess,
}

impl Program {
    /// Starts `program` with a bare environment (`PATH` and `HOME` beside `env`), its standard
    /// output and error appended to `log`.
    ///
    /// # Errors
    /// When the log can't be opened or the program can't be started.
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        args: &[A],
        env: &[(&str, &str)],
        log: &Path,
    ) -> Result<Program> {
        let mut command = guarded(program, None, OnParentDeath::Kill)?;
        command.args(args).env_clear();
        for name in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(env.iter().copied());
        Self::spawn(command, log)
    }

    /// Starts a command that ends with this process, such as a tool of Kafka's; its output likewise.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn spawn(mut command: Command, log: &Path) -> Result<Program> {
        let open = || File::options().create(true).append(true).open(log);
        let file = |source| Error::File {
            action: "open",
            path: log.to_owned(),
            source,
        };
        command
            .stdout(open().map_err(file)?)
            .stderr(open().map_err(file)?);
        Ok(Program {
            process: ServerProcess::spawn(command)?,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its exit status once it has ended.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// SIGTERM; returns the exit status and how long it took, or `None` when it has not ended.
    pub fn terminate(&self, within: Duration) -> Option<(ExitStatus, Duration)> {
        let asked = Instant::now();
        self.process.signal(Signal::TERM);
        self.process
            .wait(within)
            .map(|status| (status, asked.elapsed()))
    }

    /// Waits for its end.
    pub fn wait(&self, within: Duration) -> Option<ExitStatus> {
        self.process.wait(within)
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&self) {
        self.process.kill_tree();
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.process.pause_tree();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process.resume_tree();
    }
}
