//! Where a version's programs are: the cache, Maven Central, or the machine's own packages.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::account::Account;
use crate::error::{Error, OnFile, Result};
use crate::maven::{self, Goal};
use crate::{cache, tool};

/// The releases that are fetched, one for each major version.
const RELEASES: [(u32, &str); 5] = [
    (14, "14.24.0"),
    (15, "15.19.0"),
    (16, "16.15.0"),
    (17, "17.11.0"),
    (18, "18.6.0"),
];

const UNPACK_WITHIN: Duration = Duration::from_secs(120);

/// A folder that holds at least `initdb` and `postgres` of one version.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    bin: PathBuf,
}

impl Binaries {
    /// The programs of a major version, fetched if need be; readable by `reader`.
    ///
    /// Where fetching fails, the distribution's own package of that version serves as well.
    pub fn of(major: u32, reader: Option<&Account>) -> Result<Binaries> {
        match fetched(major, reader) {
            Ok(root) => Ok(Binaries {
                bin: root.join("bin"),
            }),
            Err(error) => from_distribution(major).ok_or(error),
        }
    }

    pub fn initdb(&self) -> PathBuf {
        self.bin.join("initdb")
    }

    pub fn postgres(&self) -> PathBuf {
        self.bin.join("postgres")
    }
}

fn from_distribution(major: u32) -> Option<Binaries> {
    let bin = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    bin.join("initdb").is_file().then_some(Binaries { bin })
}

fn fetched(major: u32, reader: Option<&Account>) -> Result<PathBuf> {
    let known = RELEASES.iter().find(|(number, _)| *number == major);
    let (_, release) = known.ok_or(Error::UnknownPostgres { major })?;
    let platform = match ARCH {
        "x86_64" => "linux-amd64",
        "aarch64" => "linux-arm64v8",
        arch => return Err(Error::UnknownPlatform { arch, major }),
    };
    let name = format!("postgres-{release}-{platform}");
    cache::installed(&cache::folder(reader)?, &name, |folder| {
        install(release, platform, folder)
    })
}

/// The artifact is a jar around one compressed tar file.
fn install(release: &str, platform: &str, folder: &Path) -> Result<()> {
    tool::find("xz")?;
    let scratch = folder.join("fetch");
    let jar = scratch.join("jar");
    cache::create_open(&jar)?;
    let properties = [
        ("postgres.version", release),
        ("postgres.platform", platform),
    ];
    maven::fetch("postgres", Goal::Unpack, &properties, &scratch, &jar)?;
    let archive = archive_in(&jar)?;
    let mut tar = Command::new(tool::find("tar")?);
    tar.arg("-xJf")
        .arg(&archive)
        .arg("-C")
        .arg(folder)
        .arg("--no-same-owner");
    tool::run(tar, &scratch.join("tar.log"), UNPACK_WITHIN)?;
    let mut version = Command::new(folder.join("bin/postgres"));
    version.arg("--version");
    tool::run(version, &scratch.join("version.log"), UNPACK_WITHIN)?;
    fs::remove_dir_all(&scratch).on("remove", &scratch)
}

fn archive_in(jar: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(jar).on("read", jar)?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "txz"))
        .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
        .on("find a .txz archive in", jar)
}
