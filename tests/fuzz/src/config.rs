//! The configuration, from TOML text and variables to a checked value or to errors with remedies.
//! A configuration without secrets is printed so that it reads back as the same.

use std::io;
use std::path::Path;

use outboxd::config::{Config, ConfigErrors, Overrides, Place, Property, load, print};

/// The file's name.
const FILE: &str = "outboxd.toml";

/// Reads text, behind a zero byte variables: a line `NAME=value` each.
pub fn check(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let (toml, variables) = text.split_once('\0').unwrap_or((text, ""));
    let env = variables.lines().filter_map(|line| line.split_once('='));
    match load_toml(toml, env) {
        Ok(config) => check_config(&config),
        Err(errors) => check_errors(&errors, toml),
    }
}

/// Reads `toml` as the file and `env` as the variables. No other file exists.
pub fn load_toml<'a>(
    toml: &str,
    env: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Config, ConfigErrors> {
    let flags = Overrides {
        config: Some(FILE.into()),
        ..Overrides::default()
    };
    let env = env.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned()));
    load(&flags, env, |path| {
        if path == Path::new(FILE) {
            Ok(toml.to_owned())
        } else {
            no_file(path)
        }
    })
}

/// A file system without files.
pub(crate) fn no_file(_: &Path) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

/// Each error says where, what, and what to do.
pub(crate) fn check_errors(errors: &ConfigErrors, toml: &str) {
    assert!(errors.count() > 0);
    let shown = errors.to_string();
    for error in errors.iter() {
        assert!(!error.problem.is_empty(), "{error:?}");
        assert!(!error.remedy.is_empty(), "{error:?}");
        assert!(shown.contains(&error.to_string()) && shown.contains(&error.remedy));
        if let Place::File { line, .. } = error.place {
            assert!(line <= 1 + toml.matches('\n').count(), "{error:?}");
        }
    }
}

fn check_config(config: &Config) {
    assert!(!config.pipelines.is_empty());
    assert!(config.pipelines.iter().all(|p| !p.tables.is_empty()));
    let printed = print(config);
    if has_secrets(config) {
        return;
    }
    match load_toml(&printed, []) {
        Ok(again) => assert_eq!(again, *config, "{printed}"),
        Err(errors) => panic!("what is printed does not load: {errors}\n{printed}"),
    }
}

/// Secrets are printed redacted, which no file may say.
fn has_secrets(config: &Config) -> bool {
    config.pipelines.iter().any(|pipeline| {
        let properties = pipeline.kafka.properties.values();
        pipeline.postgres.password.is_some()
            || properties
                .into_iter()
                .any(|property| matches!(property, Property::Secret(_)))
    })
}
