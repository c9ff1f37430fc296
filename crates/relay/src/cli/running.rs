//! The running relay that a command asks, as flags or the configuration name it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use super::Exit;
use super::admin_client::{Endpoint, Scheme};
use super::problem::Problem;
use crate::config::{self, Admin, Overrides, Secret};

#[derive(Args)]
pub(super) struct RunningRelay {
    /// TOML file with the relay's admin.listen; also OUTBOXD_CONFIG.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the relay's admin endpoints listen, such as http://localhost:8080 or
    /// https://relay.internal:8443, instead of what the configuration says.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<String>,
    /// File of the relay's token; by default that of the configuration.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of who signed the relay's certificate, where that is no public authority.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl RunningRelay {
    /// Where the relay is: as the flags say, else as the configuration does.
    pub fn endpoint(&self) -> Result<Endpoint, Exit> {
        let usage = |problem: Problem| {
            problem.report();
            Exit::Usage
        };
        let token = match &self.token_file {
            Some(file) => Some(Secret::read(file).map_err(|error| {
                let message = format!("reading {}: {error}", file.display());
                usage(Problem::new(
                    message,
                    "Name a file that holds the relay's token.",
                ))
            })?),
            None => None,
        };
        let ca = self.ca_file.as_deref();
        if let Some(url) = &self.url {
            let (scheme, authority) = Endpoint::parse(url).map_err(usage)?;
            return Endpoint::new(scheme, authority, ca, token).map_err(usage);
        }
        let admin = configured(self.config.clone())?;
        let scheme = match admin.tls_cert {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        };
        let authority = reachable(admin.listen).to_string();
        let roots = ca.or(admin.tls_cert.as_deref());
        Endpoint::new(scheme, authority, roots, token.or(admin.token)).map_err(usage)
    }
}

/// How the configured relay listens. Only that matters here, so what `run` also needs may be
/// missing.
fn configured(file: Option<PathBuf>) -> Result<Admin, Exit> {
    let overrides = Overrides {
        config: file,
        postgres: Some("postgres://localhost/unused".to_owned()),
        sink: Some("stdout".to_owned()),
        ..Overrides::default()
    };
    let config = config::load_from_process(&overrides).map_err(|errors| {
        eprintln!("{errors}");
        Exit::Config
    })?;
    Ok(config.admin)
}

/// One that listens on all addresses is asked on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_relay_that_listens_everywhere_is_asked_on_loopback() {
        let check = |listen: &str, expected: &str| {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), expected);
        };
        check("0.0.0.0:8080", "127.0.0.1:8080");
        check("[::]:8080", "[::1]:8080");
        check("10.0.0.1:8080", "10.0.0.1:8080");
    }
}
