//! Programs of the machine that the testbed calls: where they are, and running one to its end.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::{Error, OnFile, Result};
use crate::process::ServerProcess;

/// What to install for each program.
fn remedy(tool: &str) -> &'static str {
    match tool {
        "java" => "install a Java runtime, 17 or newer (Debian: openjdk-17-jre-headless)",
        "mvn" => "install Maven (Debian: maven)",
        "setpriv" => "install util-linux",
        "npm" => "install Node.js with npm (Debian: npm)",
        "python3" => "install Python 3 with venv (Debian: python3-venv)",
        "tar" => "install tar",
        "xz" => "install xz (Debian: xz-utils)",
        "openssl" => "install OpenSSL's command (Debian: openssl)",
        _ => "install it",
    }
}

/// The path of a program, from PATH.
pub(crate) fn find(tool: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(tool))
        .find(|file| file.is_file())
        .ok_or_else(|| Error::MissingTool {
            tool: tool.to_owned(),
            remedy: remedy(tool),
        })
}

/// Runs a program to its end and returns what it wrote; `log` keeps it.
///
/// # Errors
/// When it cannot be started, fails, or runs longer than `within` (it is killed then).
pub(crate) fn run(mut command: Command, log: &Path, within: Duration) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = File::create(log).on("create", log)?;
    let err = out.try_clone().on("open", log)?;
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let process = ServerProcess::spawn(command)?;
    let status = process.wait(within);
    let output = fs::read(log).on("read", log)?;
    let output = String::from_utf8_lossy(&output).into_owned();
    match status {
        Some(status) if status.success() => Ok(output),
        Some(status) => Err(Error::Failed {
            program,
            status: status.to_string(),
            tail: last_lines(&output),
        }),
        None => Err(Error::Timeout {
            what: program,
            within,
            tail: last_lines(&output),
        }),
    }
}

/// The end of a log, for an error message.
pub(crate) fn log_tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    format!(
        "{}\n(log: {})",
        last_lines(&text.unwrap_or_default()),
        log.display()
    )
}

fn last_lines(text: &str) -> String {
    const SHOWN: usize = 20;
    let lines: Vec<&str> = text.lines().collect();
    lines
        .split_at(lines.len().saturating_sub(SHOWN))
        .1
        .join("\n")
}
