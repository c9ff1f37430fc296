//! What an event says.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;

/// The payload of an event, byte for byte as it was written. Its [`Debug`](fmt::Debug) shows no
/// content.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// JSON.
    Json(Bytes),
    /// Bytes of an unknown kind, from a bytea column.
    Binary(Bytes),
    /// There is none: a tombstone.
    Absent,
}

impl Payload {
    /// The bytes; empty where there are none.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Json(bytes) | Self::Binary(bytes) => bytes,
            Self::Absent => &[],
        }
    }

    /// The payload as a value of this type. A tombstone reads as `null`.
    ///
    /// # Errors
    /// The payload is not JSON of that shape.
    pub fn parse<'de, T: Deserialize<'de>>(&'de self) -> Result<T, serde_json::Error> {
        match self {
            Self::Json(bytes) | Self::Binary(bytes) => serde_json::from_slice(bytes),
            Self::Absent => serde_json::from_slice(b"null"),
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(json) => write!(f, "Json({} bytes)", json.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
            Self::Absent => f.write_str("Absent"),
        }
    }
}
