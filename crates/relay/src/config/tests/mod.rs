//! The configuration as operators meet it: sources in, a configuration or messages out.
#![allow(clippy::unwrap_used)]

use std::io;
use std::path::{Path, PathBuf};

use super::{Config, ConfigErrors, Overrides, load};

mod connections;
mod contradictions;
mod documents;
mod errors;
mod precedence;
mod redaction;
mod robustness;

/// The least that a file must say.
const LEAST: &str = "[[pipelines]]\n\
                     postgres.url = 'postgres://relay@localhost/app'\n\
                     kafka.bootstrap = 'localhost:9092'\n";

/// A keyring with a key of zeros.
const KEYRING: &str = r#"{"keys": [{"kty": "oct", "kid": "k", "alg": "dir",
                          "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;

/// Sources of one load. The file is called `outboxd.toml`.
#[derive(Default)]
struct Given<'a> {
    toml: Option<&'a str>,
    env: &'a [(&'a str, &'a str)],
    flags: Overrides,
    files: &'a [(&'a str, &'a str)],
}

impl Given<'_> {
    fn load(&self) -> Result<Config, ConfigErrors> {
        let mut flags = self.flags.clone();
        if self.toml.is_some() {
            flags.config = Some(PathBuf::from("outboxd.toml"));
        }
        let env = self
            .env
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        load(&flags, env, |path| self.read(path))
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let files = self.toml.iter().map(|toml| ("outboxd.toml", *toml));
        files
            .chain(self.files.iter().copied())
            .find(|(name, _)| Path::new(name) == path)
            .map(|(_, content)| content.to_string())
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

#[track_caller]
fn from_toml(toml: &str) -> Config {
    match (Given {
        toml: Some(toml),
        ..Given::default()
    })
    .load()
    {
        Ok(config) => config,
        Err(errors) => panic!("{errors}\n{toml}"),
    }
}

#[track_caller]
fn from_env(env: &[(&str, &str)]) -> Config {
    match (Given {
        toml: Some(LEAST),
        env,
        ..Given::default()
    })
    .load()
    {
        Ok(config) => config,
        Err(errors) => panic!("{errors}"),
    }
}

/// The message of a load that fails.
#[track_caller]
fn message(given: &Given<'_>) -> String {
    given.load().expect_err("it loads").to_string()
}

/// The messages of `toml`, which follows the least that a file must say from line 4 on.
fn messages(toml: &str) -> String {
    let toml = format!("{LEAST}{toml}");
    let message = message(&Given {
        toml: Some(&toml),
        ..Given::default()
    });
    let (first, rest) = message.split_once('\n').unwrap();
    assert!(first.starts_with("the configuration has "), "{first}");
    rest.to_string()
}

/// One wrong line of a pipeline: the key it concerns, what is wrong, what to do.
#[track_caller]
fn check(line: &str, path: &str, problem: &str, remedy: &str) {
    let expected =
        format!("  outboxd.toml:4: pipelines[0].{path}: {problem}\n    remedy: {remedy}");
    assert_eq!(messages(line), expected, "{line}");
}
