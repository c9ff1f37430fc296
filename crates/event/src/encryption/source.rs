//! Keyrings from where they are kept: a file, or the environment.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{KeyError, Keyring};

/// Environment variable with the keyring itself.
pub const KEYRING_VARIABLE: &str = "OUTBOX_KEYRING";
/// Environment variable with the path of the keyring's file, as secrets are mounted.
pub const KEYRING_FILE_VARIABLE: &str = "OUTBOX_KEYRING_FILE";

/// Why there is no keyring.
#[derive(Debug, thiserror::Error)]
pub enum KeyringSourceError {
    /// The file can't be read.
    #[error("the keyring {} could not be read", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was read is no keyring.
    #[error("{place} holds no usable keyring")]
    Keys {
        /// Which file or variable.
        place: String,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// Neither variable is set.
    #[error(
        "no keyring: set {KEYRING_FILE_VARIABLE} to its file, or {KEYRING_VARIABLE} to its text"
    )]
    Unset,
    /// Both are set, and it is not known which one is meant.
    #[error("both {KEYRING_FILE_VARIABLE} and {KEYRING_VARIABLE} are set: unset one")]
    Both,
}

impl Keyring {
    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read, or is no keyring.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyringSourceError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map(Zeroizing::new);
        let text = text.map_err(|source| KeyringSourceError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::read(&text, &path.display().to_string())
    }

    /// Reads what [`KEYRING_VARIABLE`] holds, or the file that [`KEYRING_FILE_VARIABLE`] names.
    ///
    /// # Errors
    /// Not exactly one of them is set, or it gives no keyring.
    pub fn from_env() -> Result<Self, KeyringSourceError> {
        let text = env::var(KEYRING_VARIABLE).ok().map(Zeroizing::new);
        let file = env::var_os(KEYRING_FILE_VARIABLE).map(PathBuf::from);
        match (text, file) {
            (Some(text), None) => Self::read(&text, KEYRING_VARIABLE),
            (None, Some(file)) => Self::from_file(file),
            (None, None) => Err(KeyringSourceError::Unset),
            (Some(_), Some(_)) => Err(KeyringSourceError::Both),
        }
    }

    fn read(text: &str, place: &str) -> Result<Self, KeyringSourceError> {
        Self::from_json(text).map_err(|source| KeyringSourceError::Keys {
            place: place.to_owned(),
            source,
        })
    }
}
