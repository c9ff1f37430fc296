//! Asking the admin endpoints of a running relay: plain or with TLS, with a token or without.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::problem::Problem;
use crate::config::Secret;
use crate::failure::chain;

const PATIENCE: Duration = Duration::from_secs(5);
/// A relay's answer takes less than a kilobyte per pipeline.
const ANSWER_BYTES: u64 = 4 << 20;

/// Where a relay listens, and what it asks for.
pub(super) struct Endpoint {
    /// `host:port`.
    authority: String,
    tls: Option<Arc<ClientConfig>>,
    token: Option<Secret>,
}

/// How it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// In plain text.
    Http,
    /// With TLS; the certificate must be for the host of the URL.
    Https,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Endpoint {
    /// One that is reached at an authority. `roots` signs its certificate, with the public authorities;
    /// for a certificate that signs itself it is that one.
    ///
    /// # Errors
    /// When `roots` can't be read.
    pub fn new(
        scheme: Scheme,
        authority: String,
        roots: Option<&Path>,
        token: Option<Secret>,
    ) -> Result<Self, Problem> {
        let tls = match scheme {
            Scheme::Http => None,
            Scheme::Https => Some(Arc::new(client_config(roots)?)),
        };
        Ok(Self {
            authority,
            tls,
            token,
        })
    }

    /// Scheme and `host:port` of a URL; a path behind it is dropped.
    ///
    /// # Errors
    /// When it is none, or has a user or a password in it.
    pub fn parse(url: &str) -> Result<(Scheme, String), Problem> {
        let (scheme, rest) = match url.split_once("://") {
            None => (Scheme::Http, url),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(_) => return Err(malformed()),
        };
        let authority = rest.split('/').next().unwrap_or_default();
        if authority.is_empty() || authority.contains('@') {
            return Err(malformed());
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = match has_port {
            true => authority.to_owned(),
            false => format!("{authority}:{}", scheme.port()),
        };
        Ok((scheme, authority))
    }

    /// What /status says: as it came, and read.
    ///
    /// # Errors
    /// As [`get`](Self::get), or when it is no JSON.
    pub fn status(&self) -> Result<(String, Value), Problem> {
        let body = self.get("/status")?;
        let read = serde_json::from_str(&body).map_err(|_| self.stranger())?;
        Ok((body, read))
    }

    /// The body at a path.
    ///
    /// # Errors
    /// When nobody answers, what answers is no relay, or it wants another token.
    pub fn get(&self, path: &str) -> Result<String, Problem> {
        let answer = self.exchange(path).map_err(|error| self.silent(&error))?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or_else(|| self.stranger())?;
        let status = head.lines().next().and_then(|line| line.split(' ').nth(1));
        match status {
            Some("200") => Ok(body.to_owned()),
            Some("401") => Err(Problem::new(
                format!("the relay at {} does not take the token", self.authority),
                "Give the file of its token with --token-file (its admin.token_file).",
            )),
            Some(_) | None => Err(self.stranger()),
        }
    }

    /// HTTP/1.0, so that the answer comes in one piece and the connection ends behind it.
    fn exchange(&self, path: &str) -> io::Result<String> {
        let socket = self.connect()?;
        let Some(tls) = &self.tls else {
            return self.ask(socket, path);
        };
        let name = ServerName::try_from(host(&self.authority).to_owned())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let connection = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        self.ask(StreamOwned::new(connection, socket), path)
    }

    fn ask(&self, mut stream: impl Read + Write, path: &str) -> io::Result<String> {
        let authority = &self.authority;
        let token = match &self.token {
            Some(token) => format!("Authorization: Bearer {}\r\n", token.expose().trim()),
            None => String::new(),
        };
        let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n{token}\r\n");
        stream.write_all(request.as_bytes())?;
        stream.flush()?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.authority.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn silent(&self, error: &io::Error) -> Problem {
        let authority = &self.authority;
        let is_certificate = error
            .get_ref()
            .is_some_and(|inner| inner.is::<rustls::Error>());
        if is_certificate {
            return Problem::new(
                format!("the TLS connection to {authority} failed: {error}"),
                "Give who signed the relay's certificate with --ca-file, and with --url the name that it is for.",
            );
        }
        Problem::new(
            format!("no relay answers on {authority}: {error}"),
            "Start `outboxd run`, or say where it listens with --url (its admin.listen).",
        )
    }

    /// What answers is something else.
    pub fn stranger(&self) -> Problem {
        Problem::new(
            format!(
                "what answers on {} is not outboxd's /status",
                self.authority
            ),
            "Say where the relay listens with --url (its admin.listen), with https:// if it has admin.tls_cert.",
        )
    }
}

fn malformed() -> Problem {
    Problem::new(
        "--url is not a URL of admin endpoints",
        "Write it as http://host:port or https://host:port; a token goes into a file, see --token-file.",
    )
}

/// Without port and brackets.
fn host(authority: &str) -> &str {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn client_config(roots: Option<&Path>) -> Result<ClientConfig, Problem> {
    let mut store = RootCertStore::empty();
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = roots {
        for certificate in certificates(path)? {
            store.add(certificate).map_err(|e| unreadable(path, &e))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Problem::new(format!("preparing TLS: {e}"), "Report it."))?;
    Ok(config.with_root_certificates(store).with_no_client_auth())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let content = fs::read(path).map_err(|e| unreadable(path, &e))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    read.map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &(dyn std::error::Error + 'static)) -> Problem {
    Problem::new(
        format!("reading {}: {}", path.display(), chain(error)),
        "Name a PEM file with the certificate of who signed the relay's.",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_are_taken_with_and_without_scheme_path_and_port() {
        use Scheme::{Http, Https};
        let cases = [
            ("http://relay:8080", Http, "relay:8080"),
            ("http://relay:8080/status", Http, "relay:8080"),
            ("relay:8080", Http, "relay:8080"),
            ("http://relay", Http, "relay:80"),
            ("http://[::1]:8080/", Http, "[::1]:8080"),
            ("http://[::1]", Http, "[::1]:80"),
            ("https://relay:8443/status", Https, "relay:8443"),
            ("https://relay", Https, "relay:443"),
        ];
        for (url, scheme, authority) in cases {
            let expected = (scheme, authority.to_owned());
            assert_eq!(Endpoint::parse(url).unwrap(), expected, "{url}");
        }
        for url in ["ftp://relay:8080", "http://", "http://me:pw@relay"] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
        assert_eq!(host("[::1]:8080"), "::1");
        assert_eq!(host("relay:8080"), "relay");
    }
}
