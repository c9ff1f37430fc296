//! A file of secrets.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use crate::cli::problem::Problem;

/// Read and write for the owner alone.
const PRIVATE: u32 = 0o600;
/// Any right of group or others.
const EXPOSED: u32 = 0o077;

/// Lets one process at a time change files in the folder of `path`, until what is returned is dropped.
pub(super) fn lock(path: &Path) -> Result<File, Problem> {
    let folder = fs::canonicalize(path).and_then(|path| {
        let folder = File::open(folder_of(&path))?;
        folder.lock()?;
        Ok(folder)
    });
    let remedy = "Correct the path, or make a keyring with `outboxd keys generate`.";
    folder.map_err(|error| failed("locked", path, &error, remedy))
}

/// Writes a new file.
pub(super) fn create(path: &Path, text: &str) -> Result<(), Problem> {
    let written = write_new(path, text).and_then(|()| sync_folder(path));
    written.map_err(|error| {
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

/// Puts `text` in the place of a file's content: as a whole or not at all, with the owner and the rights
/// that the file had.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Problem> {
    let replace = || {
        // Behind a link, as secrets are mounted, stands the file itself.
        let path = fs::canonicalize(path)?;
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let new = Path::new(&name);
        let old = fs::metadata(&path)?;
        write_new(new, text)?;
        let put = keep_owner(new, &old)
            .and_then(|()| fs::set_permissions(new, Permissions::from_mode(old.mode())))
            .and_then(|()| fs::rename(new, &path));
        if put.is_err() {
            // Keys must not lie about in a file that nobody knows.
            let _ = fs::remove_file(new);
        }
        put?;
        sync_folder(&path)
    };
    let remedy = "Run it as the owner of the file and its folder, and see by `outboxd keys check` which \
                  keys the file has.";
    replace().map_err(|error| failed("written", path, &error, remedy))
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(path)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// A rotation by root must not take the keys from the service that reads them.
fn keep_owner(new: &Path, old: &Metadata) -> io::Result<()> {
    let made = fs::metadata(new)?;
    let is_same = (made.uid(), made.gid()) == (old.uid(), old.gid());
    match is_same {
        true => Ok(()),
        false => chown(new, Some(old.uid()), Some(old.gid())),
    }
}

/// A name lasts only when its folder is on disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
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
