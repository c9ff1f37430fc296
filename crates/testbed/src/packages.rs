//! Packages of other languages, for programs under test: fetched once per machine by the language's own
//! client, as a file pins them.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{OnFile, Result};
use crate::{cache, tool};

const FETCH_WITHIN: Duration = Duration::from_secs(300);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A Python that has what `requirements` pins.
///
/// # Errors
/// When Python or its venv is missing, or a package can't be fetched.
pub fn python(requirements: &Path) -> Result<PathBuf> {
    let python = tool::find("python3")?;
    let pinned = fs::read_to_string(requirements).on("read", requirements)?;
    let cache = cache::folder(None)?;
    cache::create_open(&cache)?;
    // Packages are those of one version.
    let mut version = Command::new(&python);
    version.arg("-VV");
    let log = cache.join("python.log");
    let version = tool::run(version, &log, ANSWER_WITHIN)?;
    let name = format!("python-{}", digest(&[&version, &pinned]));
    let installed = cache::installed(&cache, &name, |folder| {
        let venv = folder.join("venv");
        let mut make = Command::new(&python);
        make.args(["-m", "venv"]).arg(&venv);
        tool::run(make, &folder.join("venv.log"), FETCH_WITHIN)?;
        let mut install = Command::new(venv.join("bin/python"));
        install
            .args(["-m", "pip", "install", "--no-input", "--requirement"])
            .arg(requirements);
        tool::run(install, &folder.join("pip.log"), FETCH_WITHIN).map(drop)
    });
    Ok(installed?.join("venv/bin/python"))
}

/// The `node_modules` that the `package-lock.json` in the folder `package` pins.
///
/// # Errors
/// When npm is missing, or a package can't be fetched.
pub fn node_modules(package: &Path) -> Result<PathBuf> {
    let npm = tool::find("npm")?;
    let files = ["package.json", "package-lock.json"].map(|file| package.join(file));
    let mut pinned = String::new();
    for file in &files {
        pinned += &fs::read_to_string(file).on("read", file)?;
    }
    let name = format!("node-{}", digest(&[&pinned]));
    let installed = cache::installed(&cache::folder(None)?, &name, |folder| {
        for file in &files {
            let copy = folder.join(file.file_name().unwrap_or_default());
            fs::copy(file, &copy).on("copy", file)?;
        }
        let mut install = Command::new(&npm);
        install
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(folder);
        tool::run(install, &folder.join("npm.log"), FETCH_WITHIN).map(drop)
    });
    Ok(installed?.join("node_modules"))
}

fn digest(texts: &[&str]) -> String {
    let mut hasher = DefaultHasher::new();
    texts.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
