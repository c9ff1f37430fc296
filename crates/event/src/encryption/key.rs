//! Keys that never show themselves.

use std::fmt;

use aes_gcm::aes::cipher::KeyInit;
use aes_kw::AesKw;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::error::KeyError;

/// AES-256, for content and for wrapping alike.
pub(super) const KEY_BYTES: usize = 32;
/// A wrapped key is longer by its integrity check (RFC 3394, section 2.2.1).
pub(super) const WRAPPED_BYTES: usize = KEY_BYTES + 8;

/// 256 secret bits; overwritten when dropped.
#[derive(Clone)]
pub(super) struct Secret(Zeroizing<[u8; KEY_BYTES]>);

impl Secret {
    fn random() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(bytes.as_mut()).map_err(|_| KeyError::Random)?;
        Ok(Self(bytes))
    }

    fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        (bytes.len() == KEY_BYTES).then(|| secret.copy_from_slice(bytes))?;
        Some(Self(secret))
    }
}

/// The key that encrypts content (RFC 7516: CEK). `Debug` does not show it.
#[derive(Clone)]
pub struct ContentKey(Secret);

impl ContentKey {
    /// A new one.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn random() -> Result<Self, KeyError> {
        Secret::random().map(Self)
    }

    /// One that a key store unwrapped; `None` unless it has 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Secret::from_slice(bytes).map(Self)
    }

    /// The key itself, for a key store that wraps it.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0.0
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey(<redacted>)")
    }
}

/// How a key of a keyring is used (RFC 7518, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// `A256KW`: it wraps a content key that is new for each event. May encrypt any number of events.
    A256Kw,
    /// `dir`: it is the content key of every event. Nonces are random, so it must be replaced before
    /// 2^32 payloads and fields are encrypted with it (NIST SP 800-38D, section 8.3).
    Direct,
}

impl KeyAlgorithm {
    /// As `alg` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A256Kw => "A256KW",
            Self::Direct => "dir",
        }
    }

    /// Of an `alg`; `None` for any other.
    pub fn parse(alg: &str) -> Option<Self> {
        [Self::A256Kw, Self::Direct]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == alg)
    }
}

/// A key of a keyring. `Debug` shows its name and algorithm only.
#[derive(Clone)]
pub struct Key {
    kid: String,
    algorithm: KeyAlgorithm,
    secret: Secret,
}

impl Key {
    /// A new key.
    ///
    /// # Errors
    /// The name is empty, or the operating system gives no random bytes.
    pub fn generate(kid: impl Into<String>, algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        Self::new(kid.into(), algorithm, Secret::random()?)
    }

    /// A key of given bytes.
    ///
    /// # Errors
    /// The name is empty, or they are not 32.
    pub fn from_slice(
        kid: impl Into<String>,
        algorithm: KeyAlgorithm,
        bytes: &[u8],
    ) -> Result<Self, KeyError> {
        let kid = kid.into();
        match Secret::from_slice(bytes) {
            Some(secret) => Self::new(kid, algorithm, secret),
            None => Err(KeyError::Length { kid }),
        }
    }

    fn new(kid: String, algorithm: KeyAlgorithm, secret: Secret) -> Result<Self, KeyError> {
        match kid.is_empty() {
            true => Err(KeyError::NoKid),
            false => Ok(Self {
                kid,
                algorithm,
                secret,
            }),
        }
    }

    /// Its name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// How it is used.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// As the member `k` of a JWK has it.
    pub(super) fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(self.secret.0.as_ref()))
    }

    /// The content key of an event, and what stands for it in a JWE.
    pub(super) fn content_key(&self) -> Result<(ContentKey, Vec<u8>), KeyError> {
        match self.algorithm {
            KeyAlgorithm::Direct => Ok((ContentKey(self.secret.clone()), Vec::new())),
            KeyAlgorithm::A256Kw => {
                let key = ContentKey::random()?;
                let mut wrapped = vec![0; WRAPPED_BYTES];
                // The buffer has the length that the key asks for.
                let wrapping = self.wrapping().wrap_key(key.expose(), &mut wrapped);
                wrapping.map_err(|_| KeyError::Random)?;
                Ok((key, wrapped))
            }
        }
    }

    /// The content key that `encrypted` stands for; `None` if this key did not make it.
    pub(super) fn unwrap(&self, encrypted: &[u8]) -> Option<ContentKey> {
        match self.algorithm {
            KeyAlgorithm::Direct => encrypted
                .is_empty()
                .then(|| ContentKey(self.secret.clone())),
            KeyAlgorithm::A256Kw => {
                let mut bytes = Zeroizing::new([0; KEY_BYTES]);
                if encrypted.len() != WRAPPED_BYTES {
                    return None;
                }
                let unwrapped = self.wrapping().unwrap_key(encrypted, bytes.as_mut());
                unwrapped.ok()?;
                Some(ContentKey(Secret(bytes)))
            }
        }
    }

    fn wrapping(&self) -> AesKw<aes_gcm::aes::Aes256> {
        let key: &[u8; KEY_BYTES] = &self.secret.0;
        AesKw::new(key.into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// RFC 3394, section 4.6: 256 bits of key data with a 256-bit KEK.
    #[test]
    fn the_wrapped_key_of_the_rfc_is_unwrapped() {
        let kek: Vec<u8> = (0..32).collect();
        let data = "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F";
        let wrapped = "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43B\
                       FB988B9B7A02DD21";
        let key = Key::from_slice("k", KeyAlgorithm::A256Kw, &kek).unwrap();
        let found = key.unwrap(&bytes(wrapped)).unwrap();
        assert_eq!(found.expose().as_slice(), bytes(data));
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let pairs = hex.as_bytes().chunks(2);
        let pairs = pairs.map(|pair| std::str::from_utf8(pair).unwrap());
        pairs
            .map(|pair| u8::from_str_radix(pair, 16).unwrap())
            .collect()
    }

    #[test]
    fn a_key_unwraps_what_it_wrapped_and_nothing_else() {
        for algorithm in [KeyAlgorithm::A256Kw, KeyAlgorithm::Direct] {
            let key = Key::generate("k", algorithm).unwrap();
            let (content, mut encrypted) = key.content_key().unwrap();
            let unwrapped = key.unwrap(&encrypted).unwrap();
            assert_eq!(unwrapped.expose(), content.expose());
            encrypted.push(0);
            assert!(key.unwrap(&encrypted).is_none());
        }
        let [one, other] = [1, 2]
            .map(|byte| Key::from_slice("k", KeyAlgorithm::A256Kw, &[byte; KEY_BYTES]).unwrap());
        let (_, encrypted) = one.content_key().unwrap();
        assert!(other.unwrap(&encrypted).is_none());
        assert!(one.unwrap(&encrypted[..WRAPPED_BYTES - 1]).is_none());
        assert!(one.unwrap(&[]).is_none());
    }

    #[test]
    fn every_event_has_a_content_key_of_its_own_unless_the_key_is_direct() {
        let is_new = |algorithm| {
            let key = Key::generate("k", algorithm).unwrap();
            let made = [(); 2].map(|()| *key.content_key().unwrap().0.expose());
            made[0] != made[1]
        };
        assert!(is_new(KeyAlgorithm::A256Kw));
        assert!(!is_new(KeyAlgorithm::Direct));
    }

    #[test]
    fn debug_shows_no_key() {
        let key = Key::from_slice("name", KeyAlgorithm::Direct, &[77; KEY_BYTES]).unwrap();
        let shown = format!("{key:?} {:?}", key.content_key().unwrap().0);
        assert!(shown.contains("name"));
        assert!(!shown.contains("77") && !shown.contains("TU1N"), "{shown}");
    }
}
