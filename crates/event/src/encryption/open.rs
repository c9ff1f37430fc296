//! Decrypting what the headers name.

use serde_json::value::RawValue;

use crate::envelope::{Envelope, Payload};

use super::{
    ContentKey, ENCRYPTED_FIELDS_HEADER, KeyStore, KeyStoreError, OpenError, Scope, Subject,
    WrappedKey,
    jwe::{Place, Sealed},
    path::{Found, splice},
    store::Kind,
};

/// Decrypts the payload of an event. `subject` is what the record around it says, `scope` what its
/// headers say ([`Scope::from_headers`]).
///
/// # Errors
/// The key is missing or another one, the ciphertext was altered or was made for another event, or
/// the key store could not be asked ([`OpenError::is_passing`]).
pub async fn open(
    keys: &dyn KeyStore,
    subject: Subject<'_>,
    scope: &Scope,
    payload: &RawValue,
) -> Result<Box<RawValue>, OpenError> {
    let mut opener = Opener {
        keys,
        subject,
        last: None,
    };
    match scope {
        Scope::Payload => {
            let opened = opener.value("payload", payload.get()).await?;
            RawValue::from_string(opened).map_err(|_| not_json("payload"))
        }
        Scope::Fields(fields) => {
            let text = payload.get();
            let mut places = Vec::new();
            for field in fields {
                let found = field.find(payload);
                let found = found.map_err(|_| OpenError::PayloadNotJson)?.found;
                if found.is_empty() {
                    let path = field.clone();
                    return Err(OpenError::FieldMissing { path });
                }
                for Found { path, span } in found {
                    let value = text.get(span.clone()).unwrap_or_default();
                    places.push((span, opener.value(&path, value).await?));
                }
            }
            RawValue::from_string(splice(text, places)).map_err(|_| OpenError::PayloadNotJson)
        }
    }
}

/// The payload of an event in the clear, whether it was encrypted or not.
///
/// # Errors
/// As [`open`], and the headers may say what is not understood.
pub async fn open_envelope(keys: &dyn KeyStore, envelope: &Envelope) -> Result<Payload, OpenError> {
    let fields = envelope.headers.get(ENCRYPTED_FIELDS_HEADER);
    let fields = fields.map(|fields| &fields[..]);
    let Some(scope) = Scope::from_headers(envelope.encryption(), fields)? else {
        return Ok(envelope.payload.clone());
    };
    let subject = Subject {
        event_id: &envelope.event_id,
        event_type: &envelope.event_type,
    };
    let sealed: &RawValue = serde_json::from_slice(envelope.payload.as_bytes())
        .map_err(|_| OpenError::PayloadNotJson)?;
    let opened: Box<str> = open(keys, subject, &scope, sealed).await?.into();
    Ok(Payload::Json(opened.into_boxed_bytes().into()))
}

struct Opener<'a> {
    keys: &'a dyn KeyStore,
    subject: Subject<'a>,
    /// The fields of an event share a content key: it is unwrapped once.
    last: Option<(WrappedKey, ContentKey)>,
}

impl Opener<'_> {
    /// The JSON text that a JSON string with a JWE stands for.
    async fn value(&mut self, path: &str, value: &str) -> Result<String, OpenError> {
        let jwe: String = serde_json::from_str(value).map_err(|_| OpenError::Malformed {
            path: path.to_owned(),
            what: "it is not a string",
        })?;
        let sealed = Sealed::parse(&jwe, path)?;
        let place = Place {
            subject: self.subject,
            path,
        };
        let key = self.key(&sealed.wrapped, path).await?;
        let opened = sealed.open(key, place)?;
        let text = std::str::from_utf8(&opened).map_err(|_| not_json(path))?;
        // Checked here, so that what is spliced in can't spoil what stands around it.
        serde_json::from_str::<&RawValue>(text).map_err(|_| not_json(path))?;
        Ok(text.to_owned())
    }

    async fn key(
        &mut self,
        wrapped: &WrappedKey,
        path: &str,
    ) -> Result<Option<&ContentKey>, OpenError> {
        let is_known = self.last.as_ref().is_some_and(|(last, _)| last == wrapped);
        if !is_known {
            let key = self.keys.unwrap(wrapped).await;
            let key = key.map_err(|error| refused(error, wrapped, path))?;
            self.last = key.map(|key| (wrapped.clone(), key));
        }
        Ok(self.last.as_ref().map(|(_, key)| key))
    }
}

fn refused(error: KeyStoreError, wrapped: &WrappedKey, path: &str) -> OpenError {
    let path = path.to_owned();
    match error.kind() {
        Kind::UnknownKey => OpenError::UnknownKey {
            path,
            kid: wrapped.kid.clone(),
        },
        Kind::Unsupported => OpenError::Unsupported {
            path,
            parameter: "alg",
            value: wrapped.alg.clone(),
        },
        Kind::Passing(_) | Kind::Certain(_) => OpenError::Keys {
            path,
            source: error,
        },
    }
}

fn not_json(path: &str) -> OpenError {
    OpenError::NotJson {
        path: path.to_owned(),
    }
}
