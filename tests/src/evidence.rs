//! What a failed run leaves behind: the logs of its relays and servers, in one folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use testbed::RunFolder;

/// Folders of stages that have ended. Whether they stay is known only after the verdict.
static LEFT: Mutex<Vec<RunFolder>> = Mutex::new(Vec::new());

/// The folder of a stage.
pub(crate) struct Evidence {
    folder: Option<RunFolder>,
    path: PathBuf,
    logs: Vec<PathBuf>,
}

impl Evidence {
    /// A folder that takes copies of `logs` in when the stage ends.
    pub fn gather(logs: Vec<PathBuf>) -> Result<Self> {
        let folder = RunFolder::fresh("stage")?;
        let path = folder.path().to_owned();
        Ok(Self {
            folder: Some(folder),
            path,
            logs,
        })
    }

    pub fn folder(&self) -> &Path {
        &self.path
    }
}

impl Drop for Evidence {
    fn drop(&mut self) {
        for log in &self.logs {
            if let Some(name) = log.file_name() {
                // A log that is not there has nothing to say.
                let _ = fs::copy(log, self.path.join(name));
            }
        }
        let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        left.extend(self.folder.take());
    }
}

/// Ends the folders of all stages that have ended: they stay only after a failure.
pub fn settle(failed: bool) {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    for mut folder in left.drain(..) {
        if failed {
            folder.keep();
        }
    }
}
