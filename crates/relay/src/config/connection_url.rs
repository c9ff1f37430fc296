//! Connection URLs as libpq reads them: `postgres://user:password@host1:port1,host2/database?sslmode=…`.
//!
//! Source: PostgreSQL documentation, "Connection URIs" and "Parameter Key Words"; test:
//! `urls_are_read_as_libpq_reads_them`.

use std::path::PathBuf;
use std::time::Duration;

use super::choice;
use super::error::{Fault, quoted};
use super::postgres::{DEFAULT_PORT, Host, HostAddr, SslMode};
use super::secret::Secret;

/// What a URL says; `None` where it is silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionUrl {
    pub hosts: Vec<Host>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub database: Option<String>,
    pub application_name: Option<String>,
    pub sslmode: Option<SslMode>,
    pub sslrootcert: Option<PathBuf>,
    pub sslcert: Option<PathBuf>,
    pub sslkey: Option<PathBuf>,
    pub connect_timeout: Option<Duration>,
}

const FORM: &str = "write postgres://user@host:5432/database, with the password in \
                    postgres.password_file or PGPASSWORD";

const PARAMETERS: [&str; 12] = [
    "application_name",
    "connect_timeout",
    "dbname",
    "host",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "user",
];

impl ConnectionUrl {
    /// Reads `text`. No error repeats any part of it that could hold the password.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let rest = text
            .trim()
            .strip_prefix("postgres://")
            .or_else(|| text.trim().strip_prefix("postgresql://"))
            .ok_or_else(|| Fault::new("does not begin with postgres://", FORM))?;
        check_reserved(rest)?;
        let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = before_query.split_once('/').unwrap_or((before_query, ""));
        let (userinfo, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let mut url = Self::default();
        url.read_user(userinfo)?;
        url.database = non_empty(decode(database)?);
        let mut addresses = Addresses::from_authority(hosts)?;
        let mut is_behind_password = false;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            if is_behind_password && !PARAMETERS.contains(&&*name) {
                return Err(unknown_behind_password());
            }
            url.read_parameter(&name, decode(value)?, &mut addresses)?;
            is_behind_password |= name == "password";
        }
        url.hosts = addresses.into_hosts()?;
        Ok(url)
    }

    fn read_user(&mut self, userinfo: &str) -> Result<(), Fault> {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        self.user = non_empty(decode(user)?);
        self.password = non_empty(decode(password)?).map(Secret::new);
        Ok(())
    }

    fn read_parameter(
        &mut self,
        name: &str,
        value: String,
        addresses: &mut Addresses,
    ) -> Result<(), Fault> {
        match name {
            "host" => addresses.names = list(&value),
            "port" => addresses.ports = list(&value),
            "user" => self.user = non_empty(value),
            "password" => self.password = non_empty(value).map(Secret::new),
            "dbname" => self.database = non_empty(value),
            "application_name" => self.application_name = non_empty(value),
            "sslmode" => self.sslmode = Some(read_sslmode(&value)?),
            "sslrootcert" => self.read_sslrootcert(value),
            "sslcert" => self.sslcert = non_empty(value).map(PathBuf::from),
            "sslkey" => self.sslkey = non_empty(value).map(PathBuf::from),
            "connect_timeout" => self.connect_timeout = Some(read_seconds(&value)?),
            "target_session_attrs" => check_session_attributes(&value)?,
            unknown => return Err(unknown_parameter(unknown)),
        }
        Ok(())
    }

    /// `system` means the well-known authorities, which verify-full without a file means too.
    fn read_sslrootcert(&mut self, value: String) {
        if value == "system" {
            self.sslmode.get_or_insert(SslMode::VerifyFull);
        } else {
            self.sslrootcert = non_empty(value).map(PathBuf::from);
        }
    }
}

/// A `/` or `?` in a password ends the part that may hold one, so an `@` behind it means that the
/// rest of the password would be taken for a database or a parameter, and shown.
fn check_reserved(rest: &str) -> Result<(), Fault> {
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    match rest.get(authority_end..) {
        Some(tail) if tail.contains('@') => Err(Fault::new(
            "holds an @ behind the first / or ?",
            "write / as %2F, ? as %3F and @ as %40 in user and password",
        )),
        Some(_) | None => Ok(()),
    }
}

/// Reads an sslmode by its libpq name.
pub(super) fn read_sslmode(value: &str) -> Result<SslMode, Fault> {
    if matches!(value, "allow" | "prefer") {
        return Err(Fault::new(
            format!("sslmode={value} sends plain text when somebody in the middle refuses TLS"),
            "use verify-full, or disable where the network is trusted",
        ));
    }
    choice::by_name(value)
}

fn read_seconds(value: &str) -> Result<Duration, Fault> {
    match value.parse() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        Ok(_) | Err(_) => Err(Fault::new(
            format!(
                "connect_timeout={} in the URL is not a number of seconds",
                quoted(value)
            ),
            "write 1 to 3600",
        )),
    }
}

/// Slots live on the primary, so the hosts are always searched for it.
fn check_session_attributes(value: &str) -> Result<(), Fault> {
    match value {
        "any" | "read-write" | "primary" => Ok(()),
        other => Err(Fault::new(
            format!(
                "target_session_attrs={} would keep the relay off the primary",
                quoted(other)
            ),
            "remove it: the hosts are searched for the primary",
        )),
    }
}

/// Not shown: behind an `&` that is not escaped stands the rest of the password.
fn unknown_behind_password() -> Fault {
    Fault::new(
        "an unknown URL parameter follows password (not shown)",
        "write & as %26 in the password, or remove the parameter",
    )
}

fn unknown_parameter(name: &str) -> Fault {
    let remedy = if name.starts_with("keepalives") || name == "tcp_user_timeout" {
        "remove it: a dead server is noticed by postgres.wal_sender_timeout".to_string()
    } else if let Some(nearest) = super::nearest::nearest(name, PARAMETERS) {
        format!("did you mean {nearest}?")
    } else {
        format!("remove it; known are {}", PARAMETERS.join(", "))
    };
    Fault::new(format!("unknown URL parameter {}", quoted(name)), remedy)
}

/// Host names and ports before they are joined: libpq lists them apart in parameters.
struct Addresses {
    names: Vec<String>,
    ports: Vec<String>,
}

impl Addresses {
    fn from_authority(authority: &str) -> Result<Self, Fault> {
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for part in authority.split(',').filter(|_| !authority.is_empty()) {
            let (name, port) = split_port(part);
            names.push(decode(name)?);
            ports.push(port.to_string());
        }
        Ok(Self { names, ports })
    }

    /// One port serves all hosts; otherwise there is one per host.
    fn into_hosts(self) -> Result<Vec<Host>, Fault> {
        if self.ports.len() > 1 && self.ports.len() != self.names.len() {
            return Err(Fault::new(
                format!("{} hosts but {} ports", self.names.len(), self.ports.len()),
                "give one port for all hosts or one for each",
            ));
        }
        let port_of = |index| {
            self.ports
                .get(index)
                .or(self.ports.first())
                .map_or("", |p| p)
        };
        let join = |(index, name): (usize, &String)| host(name, port_of(index));
        self.names.iter().enumerate().map(join).collect()
    }
}

/// Reads `name`, `name:port`, `[::1]:port`, `/folder` or `/folder:port`.
pub(super) fn parse_host(text: &str) -> Result<Host, Fault> {
    let (name, port) = split_port(text.trim());
    host(name, port)
}

fn split_port(text: &str) -> (&str, &str) {
    if let Some((name, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (name, rest.strip_prefix(':').unwrap_or(rest));
    }
    // More than one colon is an IPv6 address without brackets, which has no port.
    match text.split_once(':') {
        Some((name, port)) if !port.contains(':') => (name, port),
        Some(_) | None => (text, ""),
    }
}

fn host(name: &str, port: &str) -> Result<Host, Fault> {
    let remedy = "write host, host:port or the folder of a Unix socket";
    let host = match name {
        "" => return Err(Fault::new("a host is empty", remedy)),
        folder if folder.starts_with('/') => HostAddr::Unix(PathBuf::from(folder)),
        name if is_name_or_address(name) => HostAddr::Tcp(name.to_string()),
        // Not shown: in a URL with a stray comma or colon it may be a part of the password.
        _ => {
            return Err(Fault::new(
                "a host is neither a name nor an address",
                remedy,
            ));
        }
    };
    let port = match (port, port.parse()) {
        ("", _) => DEFAULT_PORT,
        (_, Ok(port @ 1..)) => port,
        (_, Ok(0) | Err(_)) => {
            return Err(Fault::new("a port is not a number from 1 to 65535", remedy));
        }
    };
    Ok(Host { host, port })
}

fn is_name_or_address(name: &str) -> bool {
    let address = name
        .split_once('%')
        .map_or(name, |(address, _zone)| address);
    if address.contains(':') {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    name.chars()
        .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::to_string).collect()
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Percent-decoding. `+` stays as it is, as in libpq.
fn decode(text: &str) -> Result<String, Fault> {
    let fault = || {
        Fault::new(
            "holds a % that is not followed by two hexadecimal digits, or bytes that are not UTF-8",
            "write % as %25, @ as %40, : as %3A and / as %2F in user and password",
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or_else(fault)?;
        bytes.push(hex_byte(digits).ok_or_else(fault)?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| fault())
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |byte, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(byte << 4 | u8::try_from(digit).ok()?)
    })
}
