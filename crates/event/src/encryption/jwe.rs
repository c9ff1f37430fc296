//! The compact serialization (RFC 7516, section 7.1) of one ciphertext.

use std::borrow::Cow;

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use zeroize::Zeroizing;

use super::{ContentKey, OpenError, SealError, Subject, WrappedKey};

/// The one content encryption of this profile.
const ENC: &str = "A256GCM";
/// RFC 7518, section 5.3.
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// More than any header of this profile takes, with the longest event type; a bound for foreign ones.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// A place in the payload of an event: what a ciphertext is bound to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub subject: Subject<'a>,
    /// `payload`, or a field such as `payload.customer.name`.
    pub path: &'a str,
}

#[derive(Serialize)]
struct NewHeader<'a> {
    alg: &'a str,
    enc: &'a str,
    kid: &'a str,
    #[serde(rename = "eventId")]
    event_id: &'a str,
    #[serde(rename = "eventType")]
    event_type: &'a str,
    path: &'a str,
}

/// What is understood of a protected header. Other parameters may be ignored (RFC 7516, section 4).
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    enc: Cow<'a, str>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "eventId")]
    event_id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "eventType")]
    event_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    path: Option<Cow<'a, str>>,
    crit: Option<IgnoredAny>,
    zip: Option<IgnoredAny>,
}

/// Encrypts `plaintext` for one place.
pub(super) fn seal(
    plaintext: &[u8],
    (key, wrapped): (&ContentKey, &WrappedKey),
    place: Place<'_>,
) -> Result<String, SealError> {
    let header = NewHeader {
        alg: &wrapped.alg,
        enc: ENC,
        kid: &wrapped.kid,
        event_id: place.subject.event_id,
        event_type: place.subject.event_type,
        path: place.path,
    };
    // A struct of strings always is JSON.
    let header = serde_json::to_vec(&header).map_err(|_| SealError::Cipher)?;
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|_| SealError::Cipher)?;

    let mut jwe = BASE64_URL_SAFE_NO_PAD.encode(header);
    let message = Payload {
        msg: plaintext,
        aad: jwe.as_bytes(),
    };
    let sealed = cipher(key).encrypt(&nonce.into(), message);
    let sealed = sealed.map_err(|_| SealError::Cipher)?;
    let (ciphertext, tag) = sealed
        .split_last_chunk::<TAG_BYTES>()
        .ok_or(SealError::Cipher)?;
    for part in [wrapped.encrypted_key.as_slice(), &nonce, ciphertext, tag] {
        jwe.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(part, &mut jwe);
    }
    Ok(jwe)
}

fn cipher(key: &ContentKey) -> Aes256Gcm {
    Aes256Gcm::new(key.expose().into())
}

/// A ciphertext, taken apart.
pub(super) struct Sealed<'a> {
    protected: &'a str,
    header: Vec<u8>,
    pub wrapped: WrappedKey,
    nonce: [u8; NONCE_BYTES],
    /// Ciphertext and, behind it, tag.
    message: Vec<u8>,
}

impl<'a> Sealed<'a> {
    /// Takes `jwe` apart; `path` is for errors.
    pub fn parse(jwe: &'a str, path: &str) -> Result<Self, OpenError> {
        let malformed = |what| OpenError::Malformed {
            path: path.to_owned(),
            what,
        };
        let mut parts = jwe.split('.');
        let parts = [(); 5].map(|()| parts.next()).into_iter();
        let parts: Option<Vec<_>> = parts.collect();
        let Some([protected, encrypted_key, nonce, ciphertext, tag]) = parts.as_deref() else {
            return Err(malformed("it has not five parts"));
        };
        if jwe.bytes().filter(|byte| *byte == b'.').count() != 4 {
            return Err(malformed("it has not five parts"));
        }
        if protected.len() > HEADER_BYTES_MAX {
            return Err(malformed("its header is too long"));
        }
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part);
        let decode = |part| decode(part).map_err(|_| malformed("a part is not base64url"));

        let header = decode(protected)?;
        let wrapped = understand(&header, decode(encrypted_key)?, path)?;
        let nonce = decode(nonce)?.try_into();
        let nonce = nonce.map_err(|_| malformed("its initialization vector is not 12 bytes"))?;
        let mut message = decode(ciphertext)?;
        let tag = decode(tag)?;
        if tag.len() != TAG_BYTES {
            return Err(malformed("its authentication tag is not 16 bytes"));
        }
        message.extend(tag);
        Ok(Self {
            protected,
            header,
            wrapped,
            nonce,
            message,
        })
    }

    /// Decrypts it, if it was sealed with `key` for that place.
    pub fn open(
        &self,
        key: Option<&ContentKey>,
        place: Place<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let message = Payload {
            msg: &self.message,
            aad: self.protected.as_bytes(),
        };
        let nonce = self.nonce.into();
        let opened = key.and_then(|key| cipher(key).decrypt(&nonce, message).ok());
        let opened = opened.ok_or_else(|| OpenError::NotAuthentic {
            path: place.path.to_owned(),
            kid: self.wrapped.kid.clone(),
        })?;
        let opened = Zeroizing::new(opened);
        // Only now the header is known to be the producer's.
        check_place(&self.header, place)?;
        Ok(opened)
    }
}

fn parse_header<'h>(header: &'h [u8], path: &str) -> Result<Header<'h>, OpenError> {
    serde_json::from_slice(header).map_err(|_| OpenError::Malformed {
        path: path.to_owned(),
        what: "its header is no JSON object with alg and enc",
    })
}

/// The key that the header asks for.
fn understand(header: &[u8], encrypted_key: Vec<u8>, path: &str) -> Result<WrappedKey, OpenError> {
    let header = parse_header(header, path)?;
    let unsupported = |parameter, value: &str| OpenError::Unsupported {
        path: path.to_owned(),
        parameter,
        value: value.to_owned(),
    };
    if header.enc != ENC {
        return Err(unsupported("enc", &header.enc));
    }
    if header.crit.is_some() {
        return Err(unsupported("crit", "any"));
    }
    if header.zip.is_some() {
        return Err(unsupported("zip", "any"));
    }
    let kid = header.kid.ok_or_else(|| OpenError::Malformed {
        path: path.to_owned(),
        what: "its header has no kid",
    })?;
    Ok(WrappedKey {
        kid: kid.into_owned(),
        alg: header.alg.into_owned(),
        encrypted_key,
    })
}

fn check_place(header: &[u8], place: Place<'_>) -> Result<(), OpenError> {
    let header = parse_header(header, place.path)?;
    let expected = [
        ("eventId", header.event_id, place.subject.event_id),
        ("eventType", header.event_type, place.subject.event_type),
        ("path", header.path, place.path),
    ];
    for (parameter, found, expected) in expected {
        match found {
            Some(found) if found == expected => {}
            Some(found) => {
                return Err(OpenError::Moved {
                    path: place.path.to_owned(),
                    parameter,
                    found: found.into_owned(),
                });
            }
            None => {
                return Err(OpenError::Malformed {
                    path: place.path.to_owned(),
                    what: "its header lacks eventId, eventType or path",
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "jwe_tests.rs"]
mod tests;
