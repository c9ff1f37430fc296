//! Record keys in requests of operators: bytes, which JSON has no form for.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The key of a record. In JSON it is a string, or `{"hex": "00ff"}` where it is no text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordKey(Vec<u8>);

impl RecordKey {
    /// A key given in hexadecimal digits.
    pub fn from_hex(digits: &str) -> Result<Self, NotHex> {
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(NotHex);
        let pairs = digits.as_bytes().chunks(2).map(|pair| match pair {
            // Two digits make less than 256.
            [high, low] => Ok((digit(*high)? * 16 + digit(*low)?) as u8),
            _ => Err(NotHex),
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    /// The key itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text, as well as that goes, and in hex if it is none.
    pub fn shown(&self) -> (Cow<'_, str>, Option<String>) {
        let hex = self.text().is_none().then(|| self.hex());
        (String::from_utf8_lossy(&self.0), hex)
    }

    /// The key, if it is text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The key in hexadecimal digits.
    pub fn hex(&self) -> String {
        let mut digits = String::with_capacity(2 * self.0.len());
        for byte in &self.0 {
            // Writing to a `String` cannot fail.
            let _ = write!(digits, "{byte:02x}");
        }
        digits
    }
}

impl fmt::Display for RecordKey {
    /// As options of the command line name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => write!(f, "{}", text.escape_debug()),
            None => write!(f, "--key-hex {}", self.hex()),
        }
    }
}

impl<B: AsRef<[u8]>> From<B> for RecordKey {
    fn from(key: B) -> Self {
        Self(key.as_ref().to_vec())
    }
}

/// Bytes are written with two hexadecimal digits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key in hex is written with two digits for each byte, such as 00ff")]
pub struct NotHex;

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Bytes(Bytes),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bytes {
    hex: String,
}

impl Serialize for RecordKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match self.text() {
            Some(text) => Form::Text(text.to_owned()),
            None => Form::Bytes(Bytes { hex: self.hex() }),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RecordKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(text.into()),
            Form::Bytes(Bytes { hex }) => Self::from_hex(&hex).map_err(serde::de::Error::custom),
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
    fn what_is_no_key_is_refused() {
        for json in [
            "1",
            "null",
            r#"{"hex":"f"}"#,
            r#"{"hex":"zz"}"#,
            r#"{"hex":"+1"}"#,
            r#"{"hex":"é"}"#,
            r#"{"hex":"00","more":1}"#,
        ] {
            assert!(serde_json::from_str::<RecordKey>(json).is_err(), "{json}");
        }
    }
}
