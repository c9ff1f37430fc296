//! The files of a server that speaks TLS.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::account::{self, Account};
use crate::authority::{Authority, Issued, Usage};
use crate::error::{OnFile, Result};

/// A server that speaks TLS as `localhost` and 127.0.0.1, and who has signed its certificate.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub authority: Arc<Authority>,
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    /// Makes the files in a new folder; the key belongs to the account, as Postgres demands.
    pub fn make(folder: &Path, owner: Option<&Account>) -> Result<Tls> {
        let authority = Authority::make(folder)?;
        let Issued { certificate, key } = authority.issue("server", "localhost", Usage::Server)?;
        let tls = Tls {
            ca: authority.certificate(),
            authority: Arc::new(authority),
            certificate,
            key,
        };
        crate::cache::open_to_all(folder)?;
        for public in [&tls.ca, &tls.certificate] {
            fs::set_permissions(public, Permissions::from_mode(0o644)).on("open", public)?;
        }
        fs::set_permissions(&tls.key, Permissions::from_mode(0o600)).on("close", &tls.key)?;
        account::give(&tls.key, owner)?;
        Ok(tls)
    }
}
