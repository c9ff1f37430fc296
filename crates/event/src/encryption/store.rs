//! Where keys come from.

use std::{error::Error, fmt, pin::Pin};

use super::{ContentKey, KeyAlgorithm, Keyring};

/// What a key store will answer.
pub type KeyFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KeyStoreError>> + Send + 'a>>;

/// What stands for a content key in a JWE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Name of the key that it is wrapped with: `kid`.
    pub kid: String,
    /// How it is wrapped: `alg`. `A256KW` if the store wraps as RFC 3394 does, so that any JOSE
    /// library with the same key can unwrap it; else a name of the store's own, such as a URI.
    pub alg: String,
    /// The content key, wrapped: the second part of the JWE.
    pub encrypted_key: Vec<u8>,
}

/// A keyring, or a service that holds keys (KMS, HSM).
///
/// A service would be asked once per event on both sides. To spare that, it may give out one content
/// key for many events (up to 2^32 payloads and fields), and remember what it has unwrapped.
///
/// ```
/// use event::encryption::{ContentKey, KeyFuture, KeyStore, KeyStoreError, WrappedKey};
///
/// # struct Client;
/// # impl Client {
/// #     async fn encrypt(&self, _: &str, key: &[u8]) -> Result<Vec<u8>, std::io::Error> { Ok(key.into()) }
/// #     async fn decrypt(&self, _: &str, key: &[u8]) -> Result<Vec<u8>, std::io::Error> { Ok(key.into()) }
/// # }
/// struct Kms {
///     client: Client,
/// }
///
/// impl KeyStore for Kms {
///     fn content_key(&self) -> KeyFuture<'_, (ContentKey, WrappedKey)> {
///         Box::pin(async {
///             let key = ContentKey::random().map_err(KeyStoreError::certain)?;
///             let encrypted = self.client.encrypt("payments", key.expose()).await;
///             let wrapped = WrappedKey {
///                 kid: "payments".into(),
///                 alg: "https://kms.example/wrap".into(),
///                 encrypted_key: encrypted.map_err(KeyStoreError::passing)?,
///             };
///             Ok((key, wrapped))
///         })
///     }
///
///     fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey) -> KeyFuture<'a, Option<ContentKey>> {
///         Box::pin(async {
///             let key = self.client.decrypt(&wrapped.kid, &wrapped.encrypted_key).await;
///             Ok(ContentKey::from_slice(&key.map_err(KeyStoreError::passing)?))
///         })
///     }
/// }
/// ```
pub trait KeyStore: Send + Sync {
    /// A key to encrypt an event with, and what stands for it in the JWE.
    fn content_key(&self) -> KeyFuture<'_, (ContentKey, WrappedKey)>;

    /// The content key that stands in a JWE; `None` if the key of that `kid` did not wrap it.
    /// An unknown `kid` is [`KeyStoreError::unknown_key`], an unknown `alg`
    /// [`KeyStoreError::unsupported`].
    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey) -> KeyFuture<'a, Option<ContentKey>>;
}

impl KeyStore for Keyring {
    fn content_key(&self) -> KeyFuture<'_, (ContentKey, WrappedKey)> {
        Box::pin(async {
            let current = self.current();
            let (key, encrypted_key) = current.content_key().map_err(KeyStoreError::certain)?;
            let wrapped = WrappedKey {
                kid: current.kid().to_owned(),
                alg: current.algorithm().as_str().to_owned(),
                encrypted_key,
            };
            Ok((key, wrapped))
        })
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey) -> KeyFuture<'a, Option<ContentKey>> {
        Box::pin(async {
            let Some(algorithm) = KeyAlgorithm::parse(&wrapped.alg) else {
                return Err(KeyStoreError::unsupported());
            };
            let Some(key) = self.get(&wrapped.kid) else {
                return Err(KeyStoreError::unknown_key());
            };
            // A key is used in one way only, whatever a ciphertext says.
            let is_used_so = key.algorithm() == algorithm;
            Ok(is_used_so
                .then(|| key.unwrap(&wrapped.encrypted_key))
                .flatten())
        })
    }
}

/// Why a key store gave no key.
#[derive(Debug)]
pub struct KeyStoreError(Kind);

#[derive(Debug)]
pub(super) enum Kind {
    UnknownKey,
    Unsupported,
    Passing(Box<dyn Error + Send + Sync>),
    Certain(Box<dyn Error + Send + Sync>),
}

impl KeyStoreError {
    /// There is no key of that name.
    pub fn unknown_key() -> Self {
        Self(Kind::UnknownKey)
    }

    /// Keys are not wrapped in that way here.
    pub fn unsupported() -> Self {
        Self(Kind::Unsupported)
    }

    /// The store could not be asked: asking again may help.
    pub fn passing(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Kind::Passing(source.into()))
    }

    /// The store refused: asking again does not help.
    pub fn certain(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Kind::Certain(source.into()))
    }

    /// Whether asking again may help.
    pub fn is_passing(&self) -> bool {
        matches!(self.0, Kind::Passing(_))
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.0
    }
}

impl fmt::Display for KeyStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::UnknownKey => "there is no key of that name",
            Kind::Unsupported => "keys are not wrapped in that way here",
            Kind::Passing(_) => "the key store could not be asked",
            Kind::Certain(_) => "the key store refused",
        })
    }
}

impl Error for KeyStoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Kind::UnknownKey | Kind::Unsupported => None,
            Kind::Passing(source) | Kind::Certain(source) => Some(source.as_ref()),
        }
    }
}
