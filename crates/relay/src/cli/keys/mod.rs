//! `outboxd keys`: the keyrings that producers and consumers encrypt with. The relay itself needs none.

mod file;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use envelope::rfc3339::Rfc3339;
use event::encryption::{
    KEYRING_FILE_VARIABLE, Key, KeyAlgorithm, KeyError, Keyring, KeyringSourceError,
};
use pgoutput::PgTimestamp;
use serde::Serialize;

use super::Exit;
use super::problem::Problem;
use crate::cli::out::say;

#[derive(Args)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a keyring with one key, in a file that only its owner can read.
    Generate {
        #[command(flatten)]
        keyring: Place,
        #[command(flatten)]
        key: NewKey,
    },
    /// Add a key and encrypt with it from now on; or one half of that, or remove an old key.
    Rotate {
        #[command(flatten)]
        keyring: Place,
        #[command(flatten)]
        key: NewKey,
        #[command(flatten)]
        change: Change,
    },
    /// Check a keyring, and say what is in it. Keys are never printed.
    Check {
        #[command(flatten)]
        keyring: Place,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Place {
    /// The keyring's file.
    #[arg(value_name = "FILE", env = KEYRING_FILE_VARIABLE)]
    file: PathBuf,
}

#[derive(Args)]
struct NewKey {
    /// The new key's name; by default the present time.
    #[arg(long, value_name = "NAME")]
    kid: Option<String>,
    /// How the new key is used.
    #[arg(long, value_enum, default_value = "a256kw")]
    alg: Algorithm,
}

#[derive(Args)]
#[group(multiple = false)]
struct Change {
    /// Only add the key: it decrypts, and encrypts once --to says so. For the consumers' keyrings, and
    /// for the first of two steps.
    #[arg(long)]
    add_only: bool,
    /// Add no key: encrypt with this one from now on.
    #[arg(long, value_name = "NAME", conflicts_with = "kid")]
    to: Option<String>,
    /// Add no key: remove this one. What is encrypted with it can't be read any more.
    #[arg(long, value_name = "NAME", conflicts_with = "kid")]
    retire: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Algorithm {
    /// A256KW: wraps a key of its own for each event.
    A256kw,
    /// dir: encrypts every event itself; must be replaced before 2^32 of them.
    Dir,
}

impl From<Algorithm> for KeyAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::A256kw => Self::A256Kw,
            Algorithm::Dir => Self::Direct,
        }
    }
}

pub(super) fn keys(args: &KeysArgs) -> Result<(), Exit> {
    let outcome = match &args.command {
        Command::Generate { keyring, key } => generate(&keyring.file, key),
        Command::Rotate {
            keyring,
            key,
            change,
        } => rotate(&keyring.file, key, change),
        Command::Check { keyring, json } => check(&keyring.file, *json),
    };
    outcome.map_err(|problem| {
        problem.report();
        Exit::Failure
    })
}

fn generate(path: &Path, key: &NewKey) -> Result<(), Problem> {
    let keyring = Keyring::new(key.make()?);
    file::create(path, &keyring.to_json())?;
    say!(
        "created {} with key {:?}",
        path.display(),
        keyring.current().kid()
    );
    Ok(())
}

fn rotate(path: &Path, key: &NewKey, change: &Change) -> Result<(), Problem> {
    // Two rotations at once would lose one of the new keys.
    let _lock = file::lock(path)?;
    let mut keyring = read(path)?;
    if let Some(kid) = &change.to {
        keyring.make_current(kid).map_err(|error| wrong(&error))?;
    } else if let Some(kid) = &change.retire {
        keyring.remove(kid).map_err(|error| wrong(&error))?;
    } else {
        let key = key.make()?;
        let kid = key.kid().to_owned();
        keyring.add(key).map_err(|error| wrong(&error))?;
        say!("added key {kid:?}");
        if !change.add_only {
            keyring.make_current(&kid).map_err(|error| wrong(&error))?;
        }
    }
    file::replace(path, &keyring.to_json())?;
    say!(
        "{} encrypts with key {:?}",
        path.display(),
        keyring.current().kid()
    );
    Ok(())
}

impl NewKey {
    fn make(&self) -> Result<Key, Problem> {
        let kid = match &self.kid {
            Some(kid) => kid.clone(),
            None => present_time()?,
        };
        Key::generate(kid, self.alg.into()).map_err(|error| wrong(&error))
    }
}

/// To the second, such as `2026-01-31T09:30:00Z`.
fn present_time() -> Result<String, Problem> {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().ok();
    let micros = now.and_then(|now| i64::try_from(now.as_micros()).ok());
    let epoch = PgTimestamp(0).unix_micros();
    let time = micros.map(|micros| PgTimestamp(micros.saturating_sub(epoch)));
    let text = time.and_then(|time| Rfc3339::new(time).ok());
    let seconds = text.as_ref().and_then(|text| text.as_str().get(..19));
    match seconds {
        Some(seconds) => Ok(format!("{seconds}Z")),
        None => Err(Problem::new(
            "the clock gives no time to name the key after",
            "Give --kid.",
        )),
    }
}

fn read(path: &Path) -> Result<Keyring, Problem> {
    Keyring::from_file(path).map_err(|error| match &error {
        KeyringSourceError::Keys { source, .. } => wrong(source),
        KeyringSourceError::File { source, .. } => Problem::new(
            format!("{error}: {source}"),
            "Correct the path, or make a keyring with `outboxd keys generate`.",
        ),
        KeyringSourceError::Unset | KeyringSourceError::Both => {
            Problem::new(error.to_string(), "Name the file.")
        }
    })
}

fn wrong(error: &KeyError) -> Problem {
    Problem::new(
        error.to_string(),
        "Correct the keyring; docs/encryption.md describes it.",
    )
}

/// What `check` says.
#[derive(Debug, Serialize)]
struct Report {
    current: String,
    keys: Vec<KeyReport>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct KeyReport {
    kid: String,
    alg: &'static str,
}

impl Report {
    fn new(path: &Path, keyring: &Keyring) -> Self {
        let keys = keyring.keys().iter().map(|key| KeyReport {
            kid: key.kid().to_owned(),
            alg: key.algorithm().as_str(),
        });
        Self {
            current: keyring.current().kid().to_owned(),
            keys: keys.collect(),
            warnings: file::exposure(path).into_iter().collect(),
        }
    }
}

fn check(path: &Path, json: bool) -> Result<(), Problem> {
    let report = Report::new(path, &read(path)?);
    if json {
        say!("{}", serde_json::json!(report));
        return Ok(());
    }
    for key in &report.keys {
        let does = match key.kid == report.current {
            true => "encrypts and decrypts",
            false => "decrypts",
        };
        say!("{} {} {does}", key.kid, key.alg);
    }
    for warning in &report.warnings {
        say!("warning: {warning}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_after_the_present_second() {
        let kid = present_time().expect("a time");
        assert_eq!(kid.len(), 20, "{kid}");
        assert!(kid.starts_with("20") && kid.ends_with('Z'), "{kid}");
    }
}
