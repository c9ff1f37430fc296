//! The folder where fetched servers stay: filled once per machine, atomically.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::account::{self, Account};
use crate::error::{Error, OnFile, Result};

/// Where root keeps its cache when Postgres's user cannot enter root's own.
const SYSTEM_CACHE: &str = "/var/cache/outboxd";

/// The cache folder: `$OUTBOXD_CACHE`, else `$XDG_CACHE_HOME/outboxd`, else `~/.cache/outboxd`.
///
/// Where `reader` could not enter the last two, it is `/var/cache/outboxd`.
///
/// # Errors
/// When `reader` cannot enter the folder that `$OUTBOXD_CACHE` names.
pub(crate) fn folder(reader: Option<&Account>) -> Result<PathBuf> {
    choose(|name| env::var_os(name).map(PathBuf::from), reader)
}

fn choose(env: impl Fn(&str) -> Option<PathBuf>, reader: Option<&Account>) -> Result<PathBuf> {
    let set = |name| env(name).filter(|path| path.is_absolute());
    let readable = |path: &Path| reader.is_none_or(|reader| account::can_enter(path, reader));
    if let Some(path) = set("OUTBOXD_CACHE") {
        return match reader {
            Some(reader) if !readable(&path) => Err(Error::Unreachable {
                user: reader.name.clone(),
                path,
            }),
            Some(_) | None => Ok(path),
        };
    }
    Ok(set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map(|base| base.join("outboxd"))
        .filter(|path| readable(path))
        .unwrap_or_else(|| PathBuf::from(SYSTEM_CACHE)))
}

/// The folder `name` of the cache; `install` fills it if it is not there yet.
///
/// `install` gets an empty folder that takes the final name only after it succeeded. Of several
/// processes that want the same name at once, one installs and the others wait for it.
pub(crate) fn installed(
    cache: &Path,
    name: &str,
    install: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let ready = cache.join(name);
    if ready.is_dir() {
        return Ok(ready);
    }
    create_open(cache)?;
    let lock_path = cache.join(format!("{name}.lock"));
    let lock = File::create(&lock_path).on("create", &lock_path)?;
    lock.lock().on("lock", &lock_path)?;
    if ready.is_dir() {
        return Ok(ready);
    }
    let partial = cache.join(format!("{name}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial).on("remove", &partial)?;
    }
    create_open(&partial)?;
    install(&partial)?;
    open_tree(&partial)?;
    fs::rename(&partial, &ready).on("move into place", &ready)?;
    Ok(ready)
}

/// Creates a folder that everybody may read, unless it is there already.
pub(crate) fn create_open(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).on("create", path)?;
    open_to_all(path)
}

/// Lets everybody read a folder and all in it, whatever the umask was.
fn open_tree(path: &Path) -> Result<()> {
    let found = fs::symlink_metadata(path).on("read", path)?;
    if found.is_symlink() {
        return Ok(());
    }
    let mode = found.permissions().mode();
    let open = if found.is_dir() || mode & 0o100 != 0 {
        0o555
    } else {
        0o444
    };
    fs::set_permissions(path, Permissions::from_mode(mode | open))
        .on("change the mode of", path)?;
    if found.is_dir() {
        for entry in fs::read_dir(path).on("read", path)? {
            open_tree(&entry.on("read", path)?.path())?;
        }
    }
    Ok(())
}

/// Lets everybody read and enter a folder, whatever the umask was when it was created.
pub(crate) fn open_to_all(path: &Path) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o755)).on("change the mode of", path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn vars<'a>(set: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<PathBuf> + 'a {
        move |name| {
            set.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        }
    }

    fn scratch(name: &str) -> PathBuf {
        env::temp_dir().join(format!("testbed-cache-{name}-{}", std::process::id()))
    }

    #[test]
    fn the_most_specific_variable_names_the_cache() {
        let all = [
            ("OUTBOXD_CACHE", "/a"),
            ("XDG_CACHE_HOME", "/b"),
            ("HOME", "/c"),
        ];
        assert_eq!(choose(vars(&all), None).unwrap(), Path::new("/a"));
        assert_eq!(
            choose(vars(&all[1..]), None).unwrap(),
            Path::new("/b/outboxd")
        );
        assert_eq!(
            choose(vars(&all[2..]), None).unwrap(),
            Path::new("/c/.cache/outboxd")
        );
        assert_eq!(choose(vars(&[]), None).unwrap(), Path::new(SYSTEM_CACHE));
    }

    #[test]
    fn a_home_closed_to_the_reader_gives_way_but_a_named_folder_is_refused() {
        let closed = scratch("closed");
        fs::create_dir_all(&closed).unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
        let home = closed.to_str().unwrap();
        let reader = Account {
            name: "stranger".into(),
            uid: 4_000_001,
            gid: 4_000_001,
        };
        let by_home = choose(vars(&[("HOME", home)]), Some(&reader));
        let by_name = choose(vars(&[("OUTBOXD_CACHE", home)]), Some(&reader));
        fs::remove_dir_all(&closed).unwrap();
        assert_eq!(by_home.unwrap(), Path::new(SYSTEM_CACHE));
        assert!(matches!(by_name, Err(Error::Unreachable { .. })));
    }

    #[test]
    fn several_at_once_install_once_and_all_see_the_whole() {
        let cache = scratch("race");
        let installs = AtomicU32::new(0);
        let install = |folder: &Path| {
            installs.fetch_add(1, Ordering::SeqCst);
            fs::write(folder.join("first"), "1").unwrap();
            fs::write(folder.join("last"), "2").unwrap();
            Ok(())
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let folder = installed(&cache, "thing", install).unwrap();
                    assert_eq!(fs::read_to_string(folder.join("last")).unwrap(), "2");
                });
            }
        });
        fs::remove_dir_all(&cache).unwrap();
        assert_eq!(installs.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_was_installed_can_be_read_by_all() {
        let cache = scratch("modes");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let close = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        let folder = installed(&cache, "thing", |folder| {
            fs::create_dir(folder.join("bin")).unwrap();
            fs::write(folder.join("bin/program"), "1").unwrap();
            fs::write(folder.join("bin/data"), "1").unwrap();
            close(&folder.join("bin/program"), 0o700);
            close(&folder.join("bin/data"), 0o600);
            close(&folder.join("bin"), 0o700);
            Ok(())
        });
        let folder = folder.unwrap();
        let modes = ["bin", "bin/program", "bin/data"].map(|name| mode(&folder.join(name)));
        fs::remove_dir_all(&cache).unwrap();
        assert_eq!(modes, [0o755, 0o755, 0o644]);
    }

    #[test]
    fn a_failed_installation_leaves_nothing_that_looks_ready() {
        let cache = scratch("failed");
        let broken = installed(&cache, "thing", |folder| {
            fs::write(folder.join("half"), "1").unwrap();
            Err(Error::NoServerUser)
        });
        let again = installed(&cache, "thing", |folder| {
            assert!(!folder.join("half").exists());
            Ok(())
        });
        fs::remove_dir_all(&cache).unwrap();
        assert!(broken.is_err() && again.is_ok());
    }
}
