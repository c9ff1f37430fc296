use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::{Error, Result};

const TRIES: u32 = 200;
/// Below this live the well-known ports.
const LOWEST: u16 = 10_000;

/// A TCP port of 127.0.0.1 that nobody listens on and that this process was not given before.
///
/// It lies below the kernel's ephemeral range: a port from that range could be taken as the
/// source port of some client while its server is down, and a client that reconnects to it would
/// sooner or later be connected to itself.
///
/// # Errors
/// When 200 random ones are all taken.
pub fn free_port() -> Result<u16> {
    let range = server_range(fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok());
    (0..TRIES)
        .map(|_| fastrand::u16(range.clone()))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok() && take(*port))
        .ok_or(Error::NoPort { tries: TRIES })
}

/// What a server logs when somebody else was quicker to bind its port (strerror of EADDRINUSE).
pub(crate) const CLASH: &str = "Address already in use";

fn server_range(ephemeral: Option<String>) -> Range<u16> {
    let lowest_ephemeral = ephemeral
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .filter(|low| *low > LOWEST + 1_000);
    LOWEST..lowest_ephemeral.unwrap_or(32_768)
}

fn take(port: u16) -> bool {
    static TAKEN: OnceLock<Mutex<HashSet<u16>>> = OnceLock::new();
    let taken = TAKEN.get_or_init(Mutex::default);
    taken
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(port)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ports_lie_below_the_ephemeral_range_and_never_repeat() {
        assert_eq!(server_range(Some("32768\t60999\n".into())), 10_000..32_768);
        assert_eq!(server_range(Some("1024 65535".into())), 10_000..32_768);
        assert_eq!(server_range(None), 10_000..32_768);
        let ports: Vec<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        let different: HashSet<&u16> = ports.iter().collect();
        assert_eq!(different.len(), ports.len());
    }
}
