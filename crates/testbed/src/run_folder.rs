//! The folder of one server: made at its start, removed with it.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;

use crate::account::{self, Account};
use crate::cache::{create_open, open_to_all};
use crate::error::{OnFile, Result};

/// Holds a lock on the folder for as long as it is in use.
///
/// It is removed with this value, unless it is to be kept, the thread panics, or
/// `TESTBED_KEEP=1` is set; then its path is printed.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    keep: bool,
    _lock: File,
}

impl RunFolder {
    /// A new folder, for whatever else a run leaves behind.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn fresh(what: &str) -> Result<RunFolder> {
        RunFolder::create(what, false, None)
    }

    /// Leaves the folder behind.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// A new folder whose path `visitor` can enter. Also removes those of dead processes.
    pub(crate) fn create(what: &str, keep: bool, visitor: Option<&Account>) -> Result<RunFolder> {
        let base = base(env::temp_dir(), visitor)?;
        // Held while sweeping and until the new folder has its own lock, which a sweeper tests.
        let _base_lock = lock_base(&base).on("lock", &base)?;
        sweep(&base);
        let path = make_fresh(&base, what)?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).on("create", &lock_path)?;
        lock.lock().on("lock", &lock_path)?;
        Ok(RunFolder {
            path,
            keep: keep || keep_asked_for(),
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if self.keep || std::thread::panicking() {
            // Without the mark a later run would sweep the folder away.
            let _ = File::create(self.path.join("keep"));
            eprintln!("testbed: logs and data are kept in {}", self.path.display());
        } else {
            // Else a sweeper could take it for a dead one's meanwhile, and a new folder of the same
            // name be removed in its place.
            let base_lock = self.path.parent().map(lock_base);
            let _ = fs::remove_dir_all(&self.path);
            drop(base_lock);
        }
    }
}

/// Until what is returned is dropped, nobody else makes or removes folders.
fn lock_base(base: &Path) -> std::io::Result<File> {
    let lock = File::create(base.join("lock"))?;
    lock.lock()?;
    Ok(lock)
}

fn keep_asked_for() -> bool {
    env::var_os("TESTBED_KEEP").is_some_and(|value| !value.is_empty() && value != OsStr::new("0"))
}

/// The common parent, one per user, short enough for socket paths.
fn base(temp: PathBuf, visitor: Option<&Account>) -> Result<PathBuf> {
    let enterable = visitor.is_none_or(|visitor| account::can_enter(&temp, visitor));
    let temp = if enterable {
        temp
    } else {
        PathBuf::from("/tmp")
    };
    let base = temp.join(format!("testbed-{}", account::own_uid()));
    create_open(&base)?;
    let owner = fs::metadata(&base).on("read", &base)?.uid();
    if owner == account::own_uid() {
        Ok(base)
    } else {
        let foreign = io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it belongs to another user",
        );
        Err(foreign).on("use", &base)
    }
}

fn make_fresh(base: &Path, what: &str) -> Result<PathBuf> {
    const TRIES: u32 = 10_000;
    let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
    for number in 0..TRIES {
        let path = base.join(format!("{what}-{}-{number}", process::id()));
        match fs::create_dir(&path) {
            Ok(()) => return open_to_all(&path).map(|()| path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
            Err(error) => return Err(error).on("create", &path),
        }
    }
    Err(taken).on("find a free name in", base)
}

/// Removes the folders that a killed process left behind.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let path = entry.path();
        let abandoned = path.is_dir()
            && !path.join("keep").exists()
            && File::open(path.join("lock")).map_or(true, |lock| lock.try_lock().is_ok());
        if abandoned {
            // Another user's file in it would only stay for longer.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn folders_differ_and_go_with_their_owner() {
        let one = RunFolder::create("unit", false, None).unwrap();
        let two = RunFolder::create("unit", false, None).unwrap();
        let (first, second) = (one.path().to_owned(), two.path().to_owned());
        assert_ne!(first, second);
        assert!(first.is_dir() && second.is_dir());
        drop(one);
        assert_eq!(first.exists(), keep_asked_for());
        assert!(second.is_dir());
    }

    #[test]
    fn a_folder_that_goes_takes_no_other_one_with_it() {
        let make_and_drop = || {
            for _ in 0..200 {
                let folder = RunFolder::create("race", false, None).unwrap();
                File::create(folder.path().join("content")).unwrap();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(make_and_drop);
            }
        });
    }

    #[test]
    fn a_sweep_takes_abandoned_folders_only() {
        let base = env::temp_dir().join(format!("testbed-sweep-{}", process::id()));
        for name in ["abandoned", "in-use", "kept"] {
            fs::create_dir_all(base.join(name)).unwrap();
            File::create(base.join(name).join("lock")).unwrap();
        }
        File::create(base.join("kept").join("keep")).unwrap();
        let held = File::open(base.join("in-use").join("lock")).unwrap();
        held.lock().unwrap();
        sweep(&base);
        let left = |name: &str| base.join(name).exists();
        let seen = (left("abandoned"), left("in-use"), left("kept"));
        fs::remove_dir_all(&base).unwrap();
        assert_eq!(seen, (false, true, true));
    }
}
