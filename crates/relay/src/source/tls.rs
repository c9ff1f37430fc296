//! TLS of the catalog connection, with the same meaning of `sslmode` as the replication
//! connection.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error;
use crate::config::{Host, HostAddr, Postgres, SslMode};
use crate::failure::Failure;

/// Connects and drives the connection in a task of its own, which calls `ended` at its end.
pub(super) async fn connect(
    config: &tokio_postgres::Config,
    postgres: &Postgres,
    host: &Host,
    attempt: &str,
    ended: impl FnOnce(Result<(), tokio_postgres::Error>) + Send + 'static,
) -> Result<Client, Failure> {
    let mut config = config.clone();
    let plain = matches!(host.host, HostAddr::Unix(_)) || postgres.sslmode == SslMode::Disable;
    if plain {
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        let connected = config.connect(NoTls).await;
        let (client, connection) = connected.map_err(|e| error::catalog(attempt, &e))?;
        tokio::spawn(async move { ended(connection.await) });
        return Ok(client);
    }
    config.ssl_mode(tokio_postgres::config::SslMode::Require);
    let tls = MakeRustlsConnect::new(client_config(postgres)?);
    let connected = config.connect(tls).await;
    let (client, connection) = connected.map_err(|e| {
        let failure = error::catalog(attempt, &e);
        // Whatever fails in the handshake is not the server's answer.
        let handshake = e.as_db_error().is_none() && format!("{e:?}").contains("Tls");
        if handshake {
            Failure::new("postgres-tls", failure.message)
        } else {
            failure
        }
    })?;
    tokio::spawn(async move { ended(connection.await) });
    Ok(client)
}

fn client_config(postgres: &Postgres) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| refused(&e))?;
    let builder = match postgres.sslmode {
        SslMode::Disable | SslMode::VerifyFull => builder.with_root_certificates(roots(postgres)?),
        SslMode::VerifyCa => {
            let verifier = WebPkiServerVerifier::builder_with_provider(
                Arc::new(roots(postgres)?),
                Arc::clone(&provider),
            )
            .build()
            .map_err(|e| Failure::caused("postgres-tls", "preparing certificate checks", &e))?;
            let lax = Lax {
                chain: Some(verifier),
                provider,
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(lax))
        }
        SslMode::Require => {
            let lax = Lax {
                chain: None,
                provider,
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(lax))
        }
    };
    match (&postgres.sslcert, &postgres.sslkey) {
        (Some(cert), Some(key)) => {
            let key =
                PrivateKeyDer::from_pem_reader(open(key)?).map_err(|e| unreadable(key, &e))?;
            builder
                .with_client_auth_cert(certificates(cert)?, key)
                .map_err(|e| refused(&e))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn refused(error: &Error) -> Failure {
    Failure::caused("postgres-tls", "preparing TLS", error)
}

fn unreadable(path: &Path, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::caused(
        "postgres-tls",
        &format!("reading {}", path.display()),
        error,
    )
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    File::open(path)
        .map(BufReader::new)
        .map_err(|e| unreadable(path, &e))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(open(path)?).collect();
    read.map_err(|e| unreadable(path, &e))
}

fn roots(postgres: &Postgres) -> Result<RootCertStore, Failure> {
    let mut store = RootCertStore::empty();
    match &postgres.sslrootcert {
        None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            for certificate in certificates(path)? {
                store.add(certificate).map_err(|e| unreadable(path, &e))?;
            }
        }
    }
    Ok(store)
}

/// `require` and `verify-ca`: without the name, or without the chain too.
#[derive(Debug)]
struct Lax {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lax {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        let verdict =
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
