//! Payloads that only producers and consumers can read: JWE (RFC 7516).
//!
//! ```text
//!  payload ── seal ──► JWE, or payload with JWEs in it ── outbox, WAL, Kafka, DLQ ── open ──► payload
//!              │ Subject: event id, type                                │ Subject: of the record
//!              │ Scope: whole, or fields ─────── headers ───────────────┤ Scope::from_headers
//!              └ KeyStore: a key to seal with                           └ KeyStore: the key by its kid
//! ```
//!
//! Compact serialization, content encryption `A256GCM`, keys `dir` or `A256KW` or what a [`KeyStore`]
//! brings. The protected header holds the event's id and type and the place in the payload, so what
//! is sealed for one place can't be opened at another. `docs/encryption.md` describes the format for
//! other languages; `tests/interop.rs` proves it with one.
//!
//! The framing of RFC 7516 is written here, on the ciphers of RustCrypto: nonces, tags and keys have
//! one length each, which the types fix, and whatever is not of this profile is refused.

mod error;
mod jwe;
mod key;
mod keyring;
mod open;
mod path;
mod scope;
mod seal;
mod source;
mod store;

pub use crate::envelope::{CONTENT_ENCRYPTION_HEADER, ENCRYPTED_FIELDS_HEADER, JWE};
pub use error::{KeyError, OpenError, SealError};
pub use key::{ContentKey, Key, KeyAlgorithm};
pub use keyring::Keyring;
pub use open::{open, open_envelope};
pub use path::{FieldPath, FieldPathError};
pub use scope::{Scope, ScopeError};
pub use seal::{Sealed, seal};
pub use source::{KEYRING_FILE_VARIABLE, KEYRING_VARIABLE, KeyringSourceError};
pub use store::{KeyFuture, KeyStore, KeyStoreError, WrappedKey};

/// The event that a ciphertext belongs to, as its record names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The event id; for a uuid, lower case with hyphens, as the relay writes it.
    pub event_id: &'a str,
    /// The event type.
    pub event_type: &'a str,
}
