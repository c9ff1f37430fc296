//! Why a payload could not be sealed or opened. No message holds a payload or a key.

use super::{FieldPath, KeyStoreError, ScopeError};

/// What is wrong with keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is no JSON of that shape.
    #[error("the keyring is no JWK Set: line {line}, column {column}: {what}")]
    Malformed {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What kind of mistake.
        what: &'static str,
    },
    /// No key at all.
    #[error("the keyring has no key: make one with `outboxd keys generate`")]
    Empty,
    /// A key without a name.
    #[error("a key of the keyring has an empty kid: give each key its own")]
    NoKid,
    /// Two keys of one name.
    #[error("two keys have the kid {kid:?}: give each key its own")]
    Duplicate {
        /// Their name.
        kid: String,
    },
    /// Not a symmetric key.
    #[error("key {kid:?} has kty {kty:?}: only symmetric keys (oct) can be used")]
    KeyType {
        /// Its name.
        kid: String,
        /// Its type.
        kty: String,
    },
    /// An algorithm other than `dir` and `A256KW`.
    #[error("key {kid:?} has alg {alg:?}: use A256KW, or dir")]
    Algorithm {
        /// Its name.
        kid: String,
        /// What stands there.
        alg: String,
    },
    /// Not 256 bits, or not base64url.
    #[error("key {kid:?} is not 32 bytes in base64url without padding")]
    Length {
        /// Its name.
        kid: String,
    },
    /// Several keys, and none is said to be the current one.
    #[error("the keyring has several keys and no \"current\": name the kid to encrypt with")]
    NoCurrent,
    /// The current key is not there.
    #[error("the keyring's current key {kid:?} is not in it")]
    CurrentMissing {
        /// Its name.
        kid: String,
    },
    /// The current key can't be removed.
    #[error("key {kid:?} is the current one: make another one current first")]
    StillCurrent {
        /// Its name.
        kid: String,
    },
    /// No key of that name.
    #[error("the keyring has no key {kid:?}")]
    Unknown {
        /// The name.
        kid: String,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    Random,
}

/// Why a payload could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No key to seal with.
    #[error("no key to encrypt the payload with")]
    Keys(#[source] KeyStoreError),
    /// A field that must be encrypted is not there: the path may be misspelt.
    #[error(
        "the payload has no {path} to encrypt; correct the path, or write {path}? if it may be \
         missing"
    )]
    FieldMissing {
        /// The field.
        path: FieldPath,
    },
    /// The payload is no JSON.
    #[error("the payload is not valid JSON")]
    NotJson,
    /// The operating system gave no random bytes, or the payload is larger than a cipher takes.
    #[error("the payload could not be encrypted")]
    Cipher,
}

/// Why a payload could not be opened.
///
/// All but [`OpenError::is_passing`] are certain: the same record fails again.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The headers do not say what is encrypted.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// The ciphertext has not the form of RFC 7516, section 7.1.
    #[error("{path} is no JWE in compact serialization: {what}")]
    Malformed {
        /// Where it stands.
        path: String,
        /// What is wrong.
        what: &'static str,
    },
    /// It is made in a way that is not opened.
    #[error("{path} is encrypted with {parameter} {value:?}, which is not supported")]
    Unsupported {
        /// Where it stands.
        path: String,
        /// The parameter of its header.
        parameter: &'static str,
        /// What stands there.
        value: String,
    },
    /// The keyring has no key of that name.
    #[error("{path} is encrypted with key {kid:?}, which this keyring does not have")]
    UnknownKey {
        /// Where it stands.
        path: String,
        /// The key's name.
        kid: String,
    },
    /// A key of that name does not open it.
    #[error(
        "{path} could not be decrypted with key {kid:?}: the key is another one of that name, or \
         the ciphertext was altered"
    )]
    NotAuthentic {
        /// Where it stands.
        path: String,
        /// The key's name.
        kid: String,
    },
    /// It was sealed for another place.
    #[error("{path} was encrypted for another event: its {parameter} is {found:?}")]
    Moved {
        /// Where it stands.
        path: String,
        /// What differs.
        parameter: &'static str,
        /// What it was sealed for.
        found: String,
    },
    /// A field that the headers name is not in the payload.
    #[error("the headers name the encrypted field {path}, which the payload does not have")]
    FieldMissing {
        /// The field.
        path: FieldPath,
    },
    /// What was sealed is no JSON.
    #[error("{path} was decrypted, but is not valid JSON")]
    NotJson {
        /// Where it stands.
        path: String,
    },
    /// The payload around the encrypted fields is no JSON.
    #[error("the payload with encrypted fields is not valid JSON")]
    PayloadNotJson,
    /// The key store did not answer.
    #[error("the key to decrypt {path} could not be had")]
    Keys {
        /// Where it stands.
        path: String,
        /// Why.
        #[source]
        source: KeyStoreError,
    },
}

impl OpenError {
    /// Whether opening it again may succeed: the key store could not be asked.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Keys { source, .. } if source.is_passing())
    }
}
