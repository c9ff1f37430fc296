//! What a command could not do, and what its user can do about it.

use crate::failure::Failure;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The code that `outboxd explain` knows, if it is one of the relay's failures.
    pub code: Option<&'static str>,
    /// What was attempted and why it failed.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    /// A problem that only a command can have.
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code: None,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// Tells the user, on standard error.
    pub fn report(&self) {
        match self.code {
            Some(code) => eprintln!("outboxd: {} [{code}]", self.message),
            None => eprintln!("outboxd: {}", self.message),
        }
        eprintln!("  remedy: {}", self.remedy);
    }
}

impl From<Failure> for Problem {
    /// With the remedy of the code, so that every command says what `run` says.
    fn from(failure: Failure) -> Self {
        Self {
            code: Some(failure.code.name),
            message: failure.message,
            remedy: failure.code.remedy.to_owned(),
        }
    }
}
