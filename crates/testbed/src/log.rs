use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{OnFile, Result};
use crate::tool;

/// A server's log file, at the place where its present process began to write.
#[derive(Debug)]
pub(crate) struct LogPart {
    path: PathBuf,
    from: u64,
}

impl LogPart {
    /// Lets a command that is about to be spawned write at the end of the log.
    pub fn attach(path: &Path, command: &mut Command) -> Result<LogPart> {
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .on("open", path)?;
        let err = out.try_clone().on("open", path)?;
        command.stdout(out).stderr(err);
        let from = fs::metadata(path).on("read", path)?.len();
        Ok(LogPart {
            path: path.to_owned(),
            from,
        })
    }

    /// Whether the present process has written this.
    pub fn contains(&self, needle: &str) -> bool {
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.from))?;
            file.read_to_end(&mut text)
        });
        read.is_ok()
            && text
                .windows(needle.len())
                .any(|part| part == needle.as_bytes())
    }

    /// The end of the log, for an error message.
    pub fn tail(&self) -> String {
        tool::log_tail(&self.path)
    }
}
