//! The certificate of the admin endpoints, read again when its files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

use crate::failure::chain;

/// The files can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One can't be read.
    #[error("reading {path}")]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// One holds no PEM of what it should hold.
    #[error("{path} holds no certificate or key in PEM")]
    Malformed {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// Certificate and key don't fit together, or can't be used.
    #[error("the certificate can't be used with the key")]
    Refused(#[from] rustls::Error),
}

/// Accepts TLS connections with the certificate that the files hold at that moment.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    /// Of both files, when they were looked at last, whether they could be used or not.
    seen: Fingerprint,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").finish_non_exhaustive()
    }
}

type Fingerprint = [u8; 32];

impl Tls {
    /// Loads certificate chain and key, both PEM files.
    ///
    /// # Errors
    /// When they can't be read, or don't fit together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files::read(certificate, key)?;
        let loaded = Loaded {
            seen: files.fingerprint(),
            acceptor: files.acceptor(certificate, key)?,
        };
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            loaded: Mutex::new(loaded),
        })
    }

    /// For the next connection. Files that can't be used, as in the moment in which one of them is
    /// replaced, leave the known certificate in force.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(files) = Files::read(&self.certificate, &self.key)
            && files.fingerprint() != loaded.seen
        {
            loaded.seen = files.fingerprint();
            match files.acceptor(&self.certificate, &self.key) {
                Ok(acceptor) => {
                    tracing::info!("the admin endpoints have a new certificate");
                    loaded.acceptor = acceptor;
                }
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "the new certificate of the admin endpoints can't be used: the known one is"
                    );
                }
            }
        }
        loaded.acceptor.clone()
    }
}

/// What the two files hold.
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Unreadable {
                path: path.to_owned(),
                source,
            })
        };
        Ok(Self {
            certificate: read(certificate)?,
            key: read(key)?,
        })
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut both = Sha256::new();
        both.update(Sha256::digest(&self.certificate));
        both.update(Sha256::digest(&self.key));
        both.finalize().into()
    }

    fn acceptor(&self, certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
        let malformed = |path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::Malformed { path, source }
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(malformed(certificate))?;
        let private = PrivateKeyDer::from_pem_slice(&self.key).map_err(malformed(key))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, private)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
