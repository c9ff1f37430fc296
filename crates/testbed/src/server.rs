//! A server over all its processes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::process::ServerProcess;

/// A server that can be killed, paused and started again.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    log: PathBuf,
    /// The last process that it has had.
    process: Mutex<Arc<ServerProcess>>,
}

impl Server {
    pub fn of(name: String, log: PathBuf, process: ServerProcess) -> Self {
        Self {
            name,
            log,
            process: Mutex::new(Arc::new(process)),
        }
    }

    /// Its process, while it runs.
    pub fn current(&self) -> Result<Arc<ServerProcess>> {
        let process = Arc::clone(&self.process());
        match process.exit_status() {
            None => Ok(process),
            Some(_) => Err(Error::NotRunning {
                server: self.name.clone(),
            }),
        }
    }

    /// Another process, where the last one has ended.
    pub fn start_again(&self, start: impl FnOnce() -> Result<ServerProcess>) -> Result<()> {
        let mut process = self.process();
        if process.exit_status().is_none() {
            return Err(Error::AlreadyRunning {
                server: self.name.clone(),
            });
        }
        *process = Arc::new(start()?);
        Ok(())
    }

    /// SIGKILL to all its processes; they are gone when it returns.
    pub fn kill9(&self) -> Result<()> {
        let process = self.current()?;
        match process.kill_tree() {
            true => Ok(()),
            false => Err(process.unmoved(self.name.clone(), "SIGKILL", &self.log)),
        }
    }

    /// SIGSTOP to all its processes.
    pub fn pause(&self) -> Result<()> {
        let process = self.current()?;
        match process.pause_tree() {
            true => Ok(()),
            false => Err(process.unmoved(self.name.clone(), "SIGSTOP", &self.log)),
        }
    }

    /// SIGCONT to all its processes.
    pub fn resume(&self) -> Result<()> {
        self.current().map(|process| process.resume_tree())
    }

    fn process(&self) -> MutexGuard<'_, Arc<ServerProcess>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
