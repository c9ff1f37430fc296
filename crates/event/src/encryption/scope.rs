//! How much of a payload is encrypted, and the headers that say so.

use super::{CONTENT_ENCRYPTION_HEADER, ENCRYPTED_FIELDS_HEADER, FieldPath, JWE};

/// More fields than this are refused: each is compared with each.
const FIELDS_MAX: usize = 1000;
/// Of a header that is shown.
const SHOWN_CHARS: usize = 64;

/// What is encrypted of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of it: a JSON string with one JWE stands in its place.
    Payload,
    /// Some fields: a JSON string with a JWE stands in the place of each. Never empty.
    Fields(Vec<FieldPath>),
}

/// Headers that do not say what is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Another encryption than JWE.
    #[error("header {CONTENT_ENCRYPTION_HEADER} is {value:?}: only {JWE:?} is known")]
    Unknown {
        /// What it says, cut after 64 characters.
        value: String,
    },
    /// The list of fields can't be read.
    #[error(
        "header {ENCRYPTED_FIELDS_HEADER} is no JSON array of separate fields of the payload, {FIELDS_MAX} at most"
    )]
    Fields,
}

impl Scope {
    /// What the headers of a record say: `None` if nothing is encrypted. The arguments are the
    /// values of [`CONTENT_ENCRYPTION_HEADER`] and [`ENCRYPTED_FIELDS_HEADER`].
    ///
    /// # Errors
    /// Something is encrypted, but in a way that is not known.
    pub fn from_headers(
        content_encryption: Option<&[u8]>,
        encrypted_fields: Option<&[u8]>,
    ) -> Result<Option<Self>, ScopeError> {
        let Some(encryption) = content_encryption else {
            return Ok(None);
        };
        if encryption != JWE.as_bytes() {
            let value = String::from_utf8_lossy(encryption);
            let value = value.chars().take(SHOWN_CHARS).collect();
            return Err(ScopeError::Unknown { value });
        }
        let Some(fields) = encrypted_fields else {
            return Ok(Some(Self::Payload));
        };
        let fields: Vec<String> = serde_json::from_slice(fields).map_err(|_| ScopeError::Fields)?;
        let fields = fields.iter().map(|path| path.parse::<FieldPath>());
        let fields: Vec<_> = fields
            .collect::<Result<_, _>>()
            .map_err(|_| ScopeError::Fields)?;
        Self::fields(fields).map(Some)
    }

    /// These fields.
    ///
    /// # Errors
    /// There is none, there are more than 1,000, or one is a part of another one.
    pub fn fields(fields: Vec<FieldPath>) -> Result<Self, ScopeError> {
        if fields.len() > FIELDS_MAX {
            return Err(ScopeError::Fields);
        }
        let overlap = fields
            .iter()
            .enumerate()
            .any(|(at, one)| fields.iter().skip(at + 1).any(|other| one.overlaps(other)));
        match fields.is_empty() || overlap {
            true => Err(ScopeError::Fields),
            false => Ok(Self::Fields(fields)),
        }
    }

    /// The headers that say so, by name.
    pub fn headers(&self) -> Vec<(&'static str, serde_json::Value)> {
        let mut headers = vec![(CONTENT_ENCRYPTION_HEADER, JWE.into())];
        if let Self::Fields(fields) = self {
            let fields: Vec<_> = fields.iter().map(FieldPath::to_string).collect();
            headers.push((ENCRYPTED_FIELDS_HEADER, fields.into()));
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn headers_say_what_is_encrypted() {
        let scopes = [
            Scope::Payload,
            Scope::fields(vec![
                "payload.a".parse().unwrap(),
                "payload.b.*.c".parse().unwrap(),
            ])
            .unwrap(),
        ];
        for scope in scopes {
            let headers = scope.headers();
            let fields = headers.get(1).map(|(_, fields)| fields.to_string());
            let read = Scope::from_headers(Some(b"jwe"), fields.as_deref().map(str::as_bytes));
            assert_eq!(read, Ok(Some(scope)));
        }
        assert_eq!(Scope::from_headers(None, None), Ok(None));
        assert_eq!(Scope::from_headers(None, Some(b"[]")), Ok(None));
    }

    #[test]
    fn headers_that_are_not_understood_are_refused() {
        let read = |encryption: &[u8], fields| Scope::from_headers(Some(encryption), fields);
        let unknown = |value: &str| ScopeError::Unknown {
            value: value.into(),
        };
        assert_eq!(read(b"pgp", None), Err(unknown("pgp")));
        assert_eq!(read(b"", None), Err(unknown("")));
        for fields in [
            "payload.a",
            "[]",
            r#"["a"]"#,
            "[1]",
            r#"["payload.a","payload.a"]"#,
            r#"["payload.a","payload.a.b"]"#,
        ] {
            assert_eq!(
                read(b"jwe", Some(fields.as_bytes())),
                Err(ScopeError::Fields),
                "{fields}"
            );
        }
    }
}
