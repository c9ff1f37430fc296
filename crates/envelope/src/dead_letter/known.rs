//! What keys, ids and types are known by that are too long to be kept.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// A record key, event id or type of more bytes is known by its SHA-256 wherever it has to be kept: parked
/// keys are held in memory and recorded, and stubs must fit into any topic.
pub const LONGEST_NAME: usize = 1024;

/// The SHA-256 that a key is known by, if it is that long.
pub fn key_digest(key: &[u8]) -> Option<[u8; 32]> {
    (key.len() > LONGEST_NAME).then(|| Sha256::digest(key).into())
}

/// What an event id or type is known by: itself, unless it is too long. No two are known by the same.
pub fn known_by(text: &str) -> Cow<'_, str> {
    match key_digest(text.as_bytes()) {
        // A short text of that form is none: it would have to be a digest of a long one.
        Some(digest) => Cow::Owned(format!("sha256:{}", hex(&digest))),
        None => Cow::Borrowed(text),
    }
}

/// Bytes as two hexadecimal digits each.
pub fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}
