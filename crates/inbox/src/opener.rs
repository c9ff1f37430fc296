//! Encrypted payloads, made readable.
//!
//! Keys may be far away (a KMS), so payloads are opened before a transaction begins.

use event::envelope::{Envelope, Payload};

use crate::failure::Failure;

/// A payload was not decrypted.
#[derive(Debug)]
pub(crate) enum NotOpened {
    /// Keys can't be had now.
    #[cfg_attr(
        not(feature = "encryption"),
        expect(dead_code, reason = "without keys nothing is waited for")
    )]
    Yet(Failure),
    /// It can never be opened; why.
    Ever(String),
}

/// What opens encrypted payloads, if the consumer has keys.
#[derive(Clone, Default)]
pub(crate) struct Opener {
    #[cfg(feature = "encryption")]
    pub keys: Option<std::sync::Arc<dyn event::encryption::KeyStore>>,
}

impl Opener {
    /// The payload of an encrypted event in the clear.
    #[cfg(not(feature = "encryption"))]
    pub async fn open(&self, _: &Envelope) -> Result<Payload, NotOpened> {
        let reason =
            "the payload is encrypted, and the library was built without its feature encryption";
        Err(NotOpened::Ever(reason.to_owned()))
    }

    /// The payload of an encrypted event in the clear.
    #[cfg(feature = "encryption")]
    pub async fn open(&self, envelope: &Envelope) -> Result<Payload, NotOpened> {
        use std::panic::AssertUnwindSafe;
        use std::time::Duration;

        use futures_util::FutureExt;

        /// A key store that takes longer is taken for one that is away.
        const ANSWER_WITHIN: Duration = Duration::from_secs(10);

        let Some(keys) = &self.keys else {
            let reason = "the payload is encrypted, and the consumer has no keys; add them with Handlers::keys";
            return Err(NotOpened::Ever(reason.to_owned()));
        };
        let opening = event::encryption::open_envelope(keys.as_ref(), envelope);
        let opening = AssertUnwindSafe(opening).catch_unwind();
        let later = |reason: &str| NotOpened::Yet(Failure::transient(reason));
        match tokio::time::timeout(ANSWER_WITHIN, opening).await {
            Ok(Ok(Ok(payload))) => Ok(payload),
            Ok(Ok(Err(error))) if error.is_passing() => Err(NotOpened::Yet(error.into())),
            Ok(Ok(Err(error))) => Err(NotOpened::Ever(Failure::from(error).to_string())),
            Ok(Err(_)) => Err(later("the key store panicked")),
            Err(_) => Err(later("the key store does not answer")),
        }
    }
}
