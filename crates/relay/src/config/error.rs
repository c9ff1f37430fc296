//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;
use std::path::PathBuf;

/// Everything that is wrong with a configuration; never empty. `Display` shows all of it, one
/// error per line with its remedy below. No message holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The errors: by line of the file, then variables, flags, and what is missing.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }

    /// How many there are, at least one.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "the configuration has {} error{plural}", self.0.len())?;
        for error in &self.0 {
            write!(f, "\n  {error}\n    remedy: {}", error.remedy)?;
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The source that gave the value.
    pub place: Place,
    /// Full path of the key, such as `pipelines[0].batch.max_wait`; empty when the whole source
    /// is meant.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.to_string();
        for part in [&place, &self.path] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.problem)
    }
}

/// The source of a value. Later variants win over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// No source: a value that is missing, or a default.
    Nowhere,
    /// The configuration file.
    File {
        /// As it was given.
        path: PathBuf,
        /// Counted from 1; 0 when the file as a whole is meant.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl Place {
    /// Order in which errors are shown: by source and line, what is missing at the end.
    fn order(&self) -> (u8, usize) {
        match self {
            Self::File { line, .. } => (self.rank(), *line),
            Self::Variable(_) | Self::Flag(_) => (self.rank(), 0),
            Self::Nowhere => (u8::MAX, 0),
        }
    }

    /// Precedence: a higher one overrides a lower one.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Nowhere => 0,
            Self::File { .. } => 1,
            Self::Variable(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => Ok(()),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// What is wrong with a value and what to do, before it is known where the value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub problem: String,
    pub remedy: String,
}

impl Fault {
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// Collects errors, so that all of them are shown together.
#[derive(Default)]
pub(super) struct Faults(Vec<ConfigError>);

impl Faults {
    pub fn push(&mut self, place: &Place, path: impl Into<String>, fault: Fault) {
        let Fault { problem, remedy } = fault;
        let error = ConfigError {
            place: place.clone(),
            path: path.into(),
            problem,
            remedy,
        };
        // A variable or flag sets every pipeline, but is wrong only once.
        if !self.0.contains(&error) {
            self.0.push(error);
        }
    }

    /// `value`, or `Err` with everything collected if there is anything. Whoever gives no value
    /// has pushed the reason.
    pub fn into_result<T>(mut self, value: Option<T>) -> Result<T, ConfigErrors> {
        self.0.sort_by_key(|error| error.place.order());
        value
            .filter(|_| self.0.is_empty())
            .ok_or(ConfigErrors(self.0))
    }
}

/// `text` as it may stand in a message: quoted and short, and not shown at all where it could
/// hold a password, such as a URL in the wrong place.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.contains('@') || text.contains("://") || text.contains("password") {
        return "a text that may hold a password (not shown)".into();
    }
    let short: String = text.chars().take(SHOWN).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{dots}")
}
