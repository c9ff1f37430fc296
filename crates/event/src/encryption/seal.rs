//! Encrypting what a scope names.

use std::fmt;

use serde_json::value::{RawValue, to_raw_value};

use super::{
    FieldPath, KeyStore, Scope, SealError, Subject,
    jwe::{self, Place},
    path::{Found, Places, splice},
};

/// A payload of which something is encrypted.
#[derive(Clone)]
pub struct Sealed {
    /// What goes in the place of the payload.
    pub payload: Box<RawValue>,
    /// What is encrypted of it: its [`Scope::headers`] must go with the event.
    pub scope: Scope,
}

/// Without the payload: fields that are not encrypted stand in it.
impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.payload.get().len();
        let mut sealed = f.debug_struct("Sealed");
        sealed.field("bytes", &bytes).field("scope", &self.scope);
        sealed.finish()
    }
}

/// Encrypts the payload of an event, or fields of it. What is not encrypted stays as it stands there.
/// `None` if there is nothing to encrypt, as all fields may be missing and are.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use event::encryption::{Key, KeyAlgorithm, Keyring, Scope, Subject, open, seal};
///
/// let keys = Keyring::new(Key::generate("2026-01", KeyAlgorithm::A256Kw)?);
/// let subject = Subject { event_id: "0198-…", event_type: "transfers.settled" };
/// let payload = serde_json::value::to_raw_value(&serde_json::json!({"iban": "DE02…"}))?;
///
/// let sealed = seal(&keys, subject, &Scope::Payload, &payload).await?.expect("a whole payload");
/// assert!(!sealed.payload.get().contains("DE02"));
/// let opened = open(&keys, subject, &sealed.scope, &sealed.payload).await?;
/// assert_eq!(opened.get(), payload.get());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// No key could be had, or a field that must be encrypted is missing.
pub async fn seal(
    keys: &dyn KeyStore,
    subject: Subject<'_>,
    scope: &Scope,
    payload: &RawValue,
) -> Result<Option<Sealed>, SealError> {
    let (places, scope) = match scope {
        Scope::Payload => {
            let whole = Found {
                path: "payload".into(),
                span: 0..payload.get().len(),
            };
            (vec![whole], Scope::Payload)
        }
        Scope::Fields(fields) => {
            let (places, present) = find(fields, payload)?;
            (places, Scope::Fields(present))
        }
    };
    if places.is_empty() {
        return Ok(None);
    }
    let (key, wrapped) = keys.content_key().await.map_err(SealError::Keys)?;
    let text = payload.get();
    let mut sealed = Vec::with_capacity(places.len());
    for Found { path, span } in places {
        let place = Place {
            subject,
            path: &path,
        };
        let plaintext = text.get(span.clone()).unwrap_or_default().as_bytes();
        let jwe = jwe::seal(plaintext, (&key, &wrapped), place)?;
        let string = to_raw_value(&jwe).map_err(|_| SealError::NotJson)?;
        sealed.push((span, string.get().to_owned()));
    }
    let payload = RawValue::from_string(splice(text, sealed)).map_err(|_| SealError::NotJson)?;
    Ok(Some(Sealed { payload, scope }))
}

/// Where the fields stand, and which of them are there.
fn find(
    fields: &[FieldPath],
    payload: &RawValue,
) -> Result<(Vec<Found>, Vec<FieldPath>), SealError> {
    let (mut places, mut present) = (Vec::new(), Vec::new());
    for field in fields {
        let Places { found, is_missed } = field.find(payload).map_err(|_| SealError::NotJson)?;
        if is_missed && !field.may_be_missing() {
            let path = field.clone();
            return Err(SealError::FieldMissing { path });
        }
        if !found.is_empty() {
            places.extend(found);
            present.push(field.clone());
        }
    }
    Ok((places, present))
}
