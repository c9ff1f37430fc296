//! Exit codes, documented in docs/operations.md.

use std::process::{ExitCode, Termination};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success,
    /// The command failed; standard error says why.
    Failure,
    /// The command line is wrong.
    Usage,
    /// A command that compares could not: nothing is known. Standard error says why.
    CouldNotLook,
    /// The configuration is wrong.
    Config,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::CouldNotLook => 3,
            Self::Config => 78,
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}
