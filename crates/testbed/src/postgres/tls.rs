//! A certificate authority and a server certificate for one run, made by `openssl`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::account::{self, Account};
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
const SERVER_EXTENSIONS: &str = "basicConstraints=critical,CA:FALSE\n\
    subjectAltName=DNS:localhost,IP:127.0.0.1\n\
    extendedKeyUsage=serverAuth\n";

/// The files of a server that speaks TLS as `localhost` and 127.0.0.1.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    /// Makes the files in a new folder; the key belongs to the account, as Postgres demands.
    pub fn make(folder: &Path, owner: Option<&Account>) -> Result<Tls> {
        fs::create_dir(folder).on("create", folder)?;
        let file = |name: &str| folder.join(name);
        let tls = Tls {
            ca: file("ca.crt"),
            certificate: file("server.crt"),
            key: file("server.key"),
        };
        make_ca(&tls.ca, &file("ca.key"), folder)?;
        make_server(&tls, folder)?;
        crate::cache::open_to_all(folder)?;
        for public in [&tls.ca, &tls.certificate] {
            fs::set_permissions(public, Permissions::from_mode(0o644)).on("open", public)?;
        }
        fs::set_permissions(&tls.key, Permissions::from_mode(0o600)).on("close", &tls.key)?;
        account::give(&tls.key, owner)?;
        Ok(tls)
    }
}

fn make_ca(certificate: &Path, key: &Path, folder: &Path) -> Result<()> {
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
    ca.arg("-keyout").arg(key).arg("-out").arg(certificate);
    tool::run(ca, &folder.join("ca.out"), OPENSSL_WITHIN).map(drop)
}

fn make_server(tls: &Tls, folder: &Path) -> Result<()> {
    let request = folder.join("server.csr");
    let mut ask = openssl()?;
    ask.args(["req", "-new", "-subj", "/CN=localhost"])
        .args(NEW_KEY);
    ask.arg("-keyout").arg(&tls.key).arg("-out").arg(&request);
    tool::run(ask, &folder.join("request.out"), OPENSSL_WITHIN)?;

    let extensions = folder.join("server.ext");
    fs::write(&extensions, SERVER_EXTENSIONS).on("write", &extensions)?;
    let mut sign = openssl()?;
    sign.args(["x509", "-req", "-days", "30", "-CAcreateserial", "-in"])
        .arg(&request);
    sign.arg("-CA")
        .arg(&tls.ca)
        .arg("-CAkey")
        .arg(folder.join("ca.key"));
    sign.arg("-extfile")
        .arg(&extensions)
        .arg("-out")
        .arg(&tls.certificate);
    tool::run(sign, &folder.join("sign.out"), OPENSSL_WITHIN).map(drop)
}

fn openssl() -> Result<Command> {
    Ok(Command::new(tool::find("openssl")?))
}
