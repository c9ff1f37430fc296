//! A file of secrets.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::cli::problem::Problem;

/// Read and write for the owner alone.
const PRIVATE: u32 = 0o600;
/// Any right of group or others.
const EXPOSED: u32 = 0o077;

/// Writes a new file.
pub(super) fn create(path: &Path, text: &str) -> Result<(), Problem> {
    write_new(path, text).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AlreadyExists => {
                "The keys in it may be in use: add one with `outboxd keys rotate`, or name another \
                 file."
            }
            _ => "Name a file in a folder that can be written to.",
        };
        failed("created", path, &error, remedy)
    })
}

/// Puts `text` in the place of a file's content: as a whole or not at all, with the rights that the
/// file had.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Problem> {
    let replace = || {
        // Behind a link, as secrets are mounted, stands the file itself.
        let path = fs::canonicalize(path)?;
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let new = Path::new(&name);
        let rights = fs::metadata(&path)?.permissions();
        let written = write_new(new, text)
            .and_then(|()| fs::set_permissions(new, Permissions::from_mode(rights.mode())))
            .and_then(|()| fs::rename(new, &path));
        if written.is_err() {
            // Keys must not lie about in a file that nobody knows.
            let _ = fs::remove_file(new);
        }
        written
    };
    let remedy = "Nothing is changed. Run it as the owner of the file and its folder.";
    replace().map_err(|error| failed("written", path, &error, remedy))
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Who but the owner has rights on the file.
pub(super) fn exposure(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & EXPOSED != 0).then(|| {
        format!(
            "{} has mode {:03o}: others than its owner may have the keys; chmod 600 it",
            path.display(),
            mode & 0o777
        )
    })
}

fn failed(verb: &str, path: &Path, error: &io::Error, remedy: &str) -> Problem {
    Problem::new(
        format!("{} could not be {verb}: {error}", path.display()),
        remedy,
    )
}
