//! Which user runs what: this process's own, and the one that Postgres gets when this is root.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use crate::error::{Error, OnFile, Result};

/// A user other than this process's, to run a server as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

/// The effective user of this process.
pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whom Postgres runs as: somebody else when this is root, nobody else otherwise.
pub(crate) fn for_postgres() -> Result<Option<Account>> {
    if own_uid() != 0 {
        return Ok(None);
    }
    let path = Path::new("/etc/passwd");
    let passwd = fs::read_to_string(path).on("read", path)?;
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| find(&passwd, name))
        .map(Some)
        .ok_or(Error::NoServerUser)
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account {
            name: name.to_owned(),
            uid,
            gid,
        })
    })
}

/// Gives `path` to the account, if there is one.
pub(crate) fn give(path: &Path, account: Option<&Account>) -> Result<()> {
    match account {
        Some(account) => {
            chown(path, Some(account.uid), Some(account.gid)).on("change the owner of", path)
        }
        None => Ok(()),
    }
}

/// Whether the account may enter every folder on the way to `path`, as far as it exists.
pub(crate) fn can_enter(path: &Path, account: &Account) -> bool {
    path.ancestors()
        .filter_map(|folder| fs::metadata(folder).ok())
        .all(|folder| {
            let needed = match () {
                () if folder.uid() == account.uid => 0o100,
                () if folder.gid() == account.gid => 0o010,
                () => 0o001,
            };
            folder.mode() & needed != 0
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd = "postgres2:x:7:7::/:/bin/sh\npostgres:x:101:104:PG,,,:/var:/bin/bash\n";
        let found = find(passwd, "postgres").unwrap();
        assert_eq!((found.uid, found.gid), (101, 104));
        assert!(find(passwd, "nobody").is_none());
    }

    #[test]
    fn a_closed_folder_on_the_way_cannot_be_passed() {
        let outer = std::env::temp_dir().join(format!("testbed-account-{}", std::process::id()));
        let inner = outer.join("inner");
        fs::create_dir_all(&inner).unwrap();
        let stranger = Account {
            name: "stranger".into(),
            uid: 4_000_001,
            gid: 4_000_001,
        };
        fs::set_permissions(&outer, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        let open = can_enter(&inner, &stranger);
        fs::set_permissions(&outer, fs::Permissions::from_mode(0o700)).unwrap();
        let closed = can_enter(&inner, &stranger);
        fs::remove_dir_all(&outer).unwrap();
        assert!(open && !closed);
    }
}
