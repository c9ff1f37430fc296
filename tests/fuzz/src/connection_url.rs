//! Connection URLs: any text is read or refused with a remedy, and a URL made of what was read
//! means the same.

use std::path::Path;

use outboxd::config::{HostAddr, Overrides, Postgres, SslMode, load};

use crate::config::{check_errors, no_file};

/// Reads a URL into the settings of a connection; `None` if it is refused.
pub type Reader = fn(&str) -> Option<Postgres>;

/// Checks the relay's reader.
pub fn check(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        check_with(text, read);
    }
}

/// Checks `read`.
pub fn check_with(text: &str, read: Reader) {
    let Some(postgres) = read(text) else { return };
    assert!(!postgres.hosts.is_empty());
    assert!(postgres.hosts.iter().all(|host| host.port != 0));
    let url = url_of(&postgres);
    assert_eq!(read(&url), Some(postgres), "{text:?} became {url:?}");
}

/// As the flag `--postgres` is read.
pub fn read(url: &str) -> Option<Postgres> {
    let flags = Overrides {
        postgres: Some(url.into()),
        kafka: Some("localhost:9092".into()),
        ..Overrides::default()
    };
    match load(&flags, [], no_file) {
        Ok(config) => config.pipelines.into_iter().next().map(|p| p.postgres),
        Err(errors) => {
            check_errors(&errors, "");
            None
        }
    }
}

/// A URL that says all of it, with everything escaped that may be.
fn url_of(postgres: &Postgres) -> String {
    let hosts: Vec<_> = postgres
        .hosts
        .iter()
        .map(|host| {
            let name = match &host.host {
                HostAddr::Tcp(name) => escaped(name),
                HostAddr::Unix(folder) => escaped_path(folder),
            };
            format!("{name}:{}", host.port)
        })
        .collect();
    let password = postgres.password.as_ref().map(|p| escaped(p.expose()));
    let sslmode = match postgres.sslmode {
        SslMode::Disable => "disable",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    };
    let mut url = format!(
        "postgres://{}:{}@{}/{}?application_name={}&connect_timeout={}&sslmode={sslmode}",
        escaped(&postgres.user),
        password.unwrap_or_default(),
        hosts.join(","),
        escaped(&postgres.database),
        escaped(&postgres.application_name),
        postgres.connect_timeout.as_secs(),
    );
    for (name, path) in [
        ("sslrootcert", &postgres.sslrootcert),
        ("sslcert", &postgres.sslcert),
        ("sslkey", &postgres.sslkey),
    ] {
        if let Some(path) = path {
            url.push_str(&format!("&{name}={}", escaped_path(path)));
        }
    }
    url
}

fn escaped_path(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

/// Every byte that is no letter or digit as `%XX`.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
