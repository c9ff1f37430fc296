//! A certificate authority for one run, and what it issues, made by `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{OnFile, Result};
use crate::tool;

const OPENSSL_WITHIN: Duration = Duration::from_secs(30);
const NEW_KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// By a server that is reached as `localhost` or 127.0.0.1.
    Server,
    /// By a client.
    Client,
}

/// A certificate and its key (PKCS #8), both PEM files.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Signs certificates of servers and clients.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// Makes one, in a new folder.
    ///
    /// # Errors
    /// When the folder exists, or this machine lacks `openssl`.
    pub fn make(folder: &Path) -> Result<Authority> {
        fs::create_dir(folder).on("create", folder)?;
        let authority = Authority {
            folder: folder.to_owned(),
        };
        let mut ca = openssl()?;
        ca.args([
            "req",
            "-x509",
            "-days",
            "30",
            "-subj",
            "/CN=outboxd testbed",
        ])
        .args(NEW_KEY);
        ca.arg("-keyout").arg(authority.file("ca.key"));
        ca.arg("-out").arg(authority.certificate());
        tool::run(ca, &authority.file("ca.out"), OPENSSL_WITHIN)?;
        Ok(authority)
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// Issues a certificate to a common name, in files called after `file`; those of an earlier one are
    /// written anew.
    ///
    /// # Errors
    /// When `openssl` fails.
    pub fn issue(&self, file: &str, common_name: &str, usage: Usage) -> Result<Issued> {
        let issued = Issued {
            certificate: self.file(&format!("{file}.crt")),
            key: self.file(&format!("{file}.key")),
        };
        let request = self.file(&format!("{file}.csr"));
        let mut ask = openssl()?;
        ask.args(["req", "-new", "-subj", &format!("/CN={common_name}")])
            .args(NEW_KEY);
        ask.arg("-keyout")
            .arg(&issued.key)
            .arg("-out")
            .arg(&request);
        tool::run(
            ask,
            &self.file(&format!("{file}.request.out")),
            OPENSSL_WITHIN,
        )?;

        let extensions = self.file(&format!("{file}.ext"));
        fs::write(&extensions, extensions_of(usage)).on("write", &extensions)?;
        let mut sign = openssl()?;
        sign.args(["x509", "-req", "-days", "30", "-CAcreateserial", "-in"])
            .arg(&request);
        sign.arg("-CA").arg(self.certificate());
        sign.arg("-CAkey").arg(self.file("ca.key"));
        sign.arg("-extfile").arg(&extensions);
        sign.arg("-out").arg(&issued.certificate);
        tool::run(
            sign,
            &self.file(&format!("{file}.sign.out")),
            OPENSSL_WITHIN,
        )?;
        Ok(issued)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn extensions_of(usage: Usage) -> &'static str {
    match usage {
        Usage::Server => {
            "basicConstraints=critical,CA:FALSE\n\
             subjectAltName=DNS:localhost,IP:127.0.0.1\n\
             extendedKeyUsage=serverAuth\n"
        }
        Usage::Client => {
            "basicConstraints=critical,CA:FALSE\n\
             extendedKeyUsage=clientAuth\n"
        }
    }
}

fn openssl() -> Result<Command> {
    Ok(Command::new(tool::find("openssl")?))
}
