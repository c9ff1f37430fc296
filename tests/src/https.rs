//! A GET request with TLS, as whoever asks the admin endpoints sends it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const WITHIN: Duration = Duration::from_secs(5);

/// Status code and body. The server must have a certificate for `localhost` that the authority, a PEM
/// file, has signed; `lines` are added to the header.
pub fn get(
    address: SocketAddr,
    path: &str,
    authority: &Path,
    lines: &[&str],
) -> Result<(u16, String)> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost")?;
    let connection = ClientConnection::new(Arc::new(config), name)?;
    let socket = TcpStream::connect_timeout(&address, WITHIN)?;
    socket.set_read_timeout(Some(WITHIN))?;
    socket.set_write_timeout(Some(WITHIN))?;
    let mut stream = StreamOwned::new(connection, socket);

    let mut request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for line in lines {
        request.push_str(&format!("{line}\r\n"));
    }
    request.push_str("\r\n");
    // Who asks for too much may be cut off while it is still asking, and has its answer all the same.
    let written = stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.flush());
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        written?;
        read?;
        anyhow::bail!("not an HTTP answer: {answer:?}");
    };
    let status = head.split(' ').nth(1).context("no status code")?.parse()?;
    Ok((status, body.to_owned()))
}
