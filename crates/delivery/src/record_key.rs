//! Record keys that are kept, or that operators name: bytes, which JSON has no form for, and which may be
//! as long as an event.

use std::borrow::Cow;
use std::fmt;

use envelope::dead_letter::{self, Entry, hex};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The key of a record, as it is told from others: by its bytes or, if they are more than
/// [`dead_letter::LONGEST_NAME`], by their SHA-256. In JSON it is a string, `{"hex": "00ff"}` where it is no
/// text, or `{"sha256": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordKey(Name);

/// A key has only one of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    Whole(Vec<u8>),
    Digest([u8; 32]),
}

/// What people are shown of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown<'a> {
    /// As text, as well as that goes.
    pub text: Option<Cow<'a, str>>,
    /// In hexadecimal digits, if it is no text.
    pub hex: Option<String>,
    /// The SHA-256 of one that is long.
    pub sha256: Option<String>,
}

impl RecordKey {
    /// A key given in hexadecimal digits.
    pub fn from_hex(digits: &str) -> Result<Self, NotHex> {
        bytes_of(digits).map(Self::from)
    }

    /// A long key given by its SHA-256, in hexadecimal digits.
    pub fn from_sha256(digits: &str) -> Result<Self, NotSha256> {
        let bytes = bytes_of(digits).map_err(|NotHex| NotSha256)?;
        let digest = bytes.try_into().map_err(|_| NotSha256)?;
        Ok(Self(Name::Digest(digest)))
    }

    /// The key of the event that a dead letter with this record key holds or describes.
    pub fn of_letter(entry: &Entry<'_>, key: Option<&[u8]>) -> Option<Self> {
        match Self::from_sha256(entry.key_sha256) {
            Ok(long) => Some(long),
            Err(NotSha256) => key.map(Self::from),
        }
    }

    pub(crate) fn name(&self) -> &Name {
        &self.0
    }

    pub(crate) fn into_name(self) -> Name {
        self.0
    }

    /// What people are shown of it.
    pub fn shown(&self) -> Shown<'_> {
        match &self.0 {
            Name::Whole(key) => Shown {
                text: Some(String::from_utf8_lossy(key)),
                hex: self.text().is_none().then(|| hex(key)),
                sha256: None,
            },
            Name::Digest(digest) => Shown {
                sha256: Some(hex(digest)),
                ..Shown::default()
            },
        }
    }

    /// The key, if it is text that is not long.
    pub fn text(&self) -> Option<&str> {
        match &self.0 {
            Name::Whole(key) => std::str::from_utf8(key).ok(),
            Name::Digest(_) => None,
        }
    }
}

fn bytes_of(digits: &str) -> Result<Vec<u8>, NotHex> {
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(NotHex);
    let pairs = digits.as_bytes().chunks(2).map(|pair| match pair {
        // Two digits make less than 256.
        [high, low] => Ok((digit(*high)? * 16 + digit(*low)?) as u8),
        _ => Err(NotHex),
    });
    pairs.collect()
}

impl fmt::Display for RecordKey {
    /// As options of the command line name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0, self.text()) {
            (Name::Whole(_), Some(text)) => write!(f, "{}", text.escape_debug()),
            (Name::Whole(key), None) => write!(f, "--key-hex {}", hex(key)),
            (Name::Digest(digest), _) => write!(f, "--key-sha256 {}", hex(digest)),
        }
    }
}

impl<B: AsRef<[u8]>> From<B> for RecordKey {
    fn from(key: B) -> Self {
        let key = key.as_ref();
        Self(match dead_letter::key_digest(key) {
            Some(digest) => Name::Digest(digest),
            None => Name::Whole(key.to_vec()),
        })
    }
}

/// Bytes are written with two hexadecimal digits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key in hex is written with two digits for each byte, such as 00ff")]
pub struct NotHex;

/// A SHA-256 is written with 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the SHA-256 of a key is written with 64 hexadecimal digits")]
pub struct NotSha256;

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Bytes(Bytes),
    Digest(Digest),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Digest {
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bytes {
    hex: String,
}

impl Serialize for RecordKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match (&self.0, self.text()) {
            (Name::Whole(_), Some(text)) => Form::Text(text.to_owned()),
            (Name::Whole(key), None) => Form::Bytes(Bytes { hex: hex(key) }),
            (Name::Digest(digest), _) => Form::Digest(Digest {
                sha256: hex(digest),
            }),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RecordKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(text.into()),
            Form::Bytes(Bytes { hex }) => Self::from_hex(&hex).map_err(serde::de::Error::custom),
            Form::Digest(Digest { sha256 }) => {
                Self::from_sha256(&sha256).map_err(serde::de::Error::custom)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_that_is_no_text_has_a_form_of_its_own() {
        for (key, json) in [
            (&b"tr-1"[..], r#""tr-1""#),
            (b"\xff\x00", r#"{"hex":"ff00"}"#),
            (b"", r#""""#),
        ] {
            let key = RecordKey::from(key);
            assert_eq!(serde_json::to_string(&key).unwrap(), json);
            assert_eq!(serde_json::from_str::<RecordKey>(json).unwrap(), key);
        }
    }

    #[test]
    fn a_long_key_is_known_by_its_digest_alone_and_by_no_other() {
        let long = |last: u8| [&[b'k'; dead_letter::LONGEST_NAME][..], &[last]].concat();
        let (one, other) = (long(1), long(2));
        let key = RecordKey::from(&one);
        assert_ne!(key, RecordKey::from(&other));
        let sha256 = key.shown().sha256.unwrap();
        assert_eq!(RecordKey::from_sha256(&sha256).unwrap(), key);
        assert_eq!(RecordKey::from_hex(&hex(&one)).unwrap(), key);
        assert_eq!(key.to_string(), format!("--key-sha256 {sha256}"));
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!(r#"{{"sha256":"{sha256}"}}"#));
        assert_eq!(serde_json::from_str::<RecordKey>(&json).unwrap(), key);
        // The digest itself may be the key of another event.
        assert_ne!(RecordKey::from(&sha256), key);
        let stub = Entry {
            key_sha256: &sha256,
            ..Entry::default()
        };
        let of = |entry, stored: &[u8]| RecordKey::of_letter(entry, Some(stored)).unwrap();
        assert_eq!(of(&stub, sha256.as_bytes()), key);
        assert_eq!(of(&Entry::default(), &one), key);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for json in [
            "1",
            "null",
            r#"{"hex":"f"}"#,
            r#"{"hex":"zz"}"#,
            r#"{"hex":"+1"}"#,
            r#"{"hex":"é"}"#,
            r#"{"hex":"00","more":1}"#,
            r#"{"sha256":"00ff"}"#,
        ] {
            assert!(serde_json::from_str::<RecordKey>(json).is_err(), "{json}");
        }
    }
}
