//! One place maps every error to what the pipeline does and what the operator does.

mod codes;

use std::error::Error;
use std::fmt;

use tokio_postgres::error::DbError;

pub use codes::{CODES, Code, Severity, find};

/// An error with its stable code.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What it is, and the remedy.
    pub code: &'static Code,
    /// What was attempted and why it failed, with all causes.
    pub message: String,
}

impl Failure {
    /// A failure by its code. An unknown code is a bug, caught by the tests of the code table.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: find(code).unwrap_or(&CODES[0]),
            message: message.into(),
        }
    }

    /// A failure whose message is an error with its chain of causes.
    pub fn caused(code: &str, attempt: &str, error: &(dyn Error + 'static)) -> Self {
        Self::new(code, format!("{attempt}: {}", chain(error)))
    }

    /// Whether it passes by itself.
    pub fn is_transient(&self) -> bool {
        self.code.severity != Severity::Stopped
    }

    /// Whether another relay has the slot, and this one stands by.
    pub fn stands_by(&self) -> bool {
        self.code.severity == Severity::StandBy
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code.name)
    }
}

impl Error for Failure {}

impl From<delivery::Halt> for Failure {
    fn from(halt: delivery::Halt) -> Self {
        Self::new(halt.code(), chain(&halt))
    }
}

/// An error and its causes, joined by colons.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = own_text(error);
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = own_text(cause);
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Of an error of Postgres not the detail: it may show a row, which may be an event.
fn own_text(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<DbError>() {
        Some(error) => format!(
            "{}: {} (SQLSTATE {})",
            error.severity(),
            error.message(),
            error.code().code()
        ),
        None => error.to_string(),
    }
}
