//! `postgresql.conf` and `pg_hba.conf` of a throwaway cluster.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::error::{OnFile, Result};
use crate::postgres::SUPERUSER;
use crate::postgres::tls::Tls;

/// Enough for a relay, its standbys and the tests' own slots.
const DEFAULTS: [(&str, &str); 10] = [
    ("listen_addresses", "127.0.0.1"),
    ("wal_level", "logical"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("max_prepared_transactions", "10"),
    ("password_encryption", "scram-sha-256"),
    ("log_replication_commands", "off"),
    ("log_line_prefix", "%m [%p] %q%u@%d %a "),
    ("jit", "off"),
    // In the data directory, so that a killed server leaves nothing in /dev/shm.
    ("dynamic_shared_memory_type", "mmap"),
];

/// Appends to the file that `initdb` wrote; for a name that is given twice the last value wins.
pub(crate) fn write_settings(
    data: &Path,
    socket_dir: &Path,
    durable: bool,
    tls: Option<&Tls>,
    own: &[(String, String)],
) -> Result<()> {
    let mut text = String::new();
    let mut set = |name: &str, value: &str| text.push_str(&setting(name, value));
    DEFAULTS.iter().for_each(|(name, value)| set(name, value));
    set("unix_socket_directories", &socket_dir.to_string_lossy());
    // full_page_writes stays on: SIGKILL can tear an 8 KiB page even while the kernel lives on.
    set("fsync", if durable { "on" } else { "off" });
    if let Some(tls) = tls {
        set("ssl", "on");
        set("ssl_cert_file", &tls.certificate.to_string_lossy());
        set("ssl_key_file", &tls.key.to_string_lossy());
        set("ssl_ca_file", &tls.ca.to_string_lossy());
    }
    own.iter().for_each(|(name, value)| set(name, value));
    let path = data.join("postgresql.conf");
    let mut file = OpenOptions::new()
        .append(true)
        .open(&path)
        .on("open", &path)?;
    file.write_all(text.as_bytes()).on("write", &path)
}

/// A line of `postgresql.conf`.
pub(crate) fn setting(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\'', "''"))
}

/// The first line that matches decides, so the test's own lines come before the defaults, and
/// the superuser's way in through the socket before all.
pub(crate) fn write_hba(data: &Path, own: &[String]) -> Result<()> {
    let mut text = format!("local all {SUPERUSER} trust\n");
    own.iter()
        .for_each(|line| text.push_str(&format!("{line}\n")));
    for (database, user) in [("all", "all"), ("replication", "all")] {
        text.push_str(&format!("local {database} {user} trust\n"));
        text.push_str(&format!(
            "host {database} {user} 127.0.0.1/32 scram-sha-256\n"
        ));
    }
    let path = data.join("pg_hba.conf");
    fs::write(&path, text).on("write", &path)
}

#[cfg(test)]
mod tests {
    use super::setting;

    #[test]
    fn a_quote_in_a_value_is_doubled() {
        assert_eq!(setting("search_path", "it's"), "search_path = 'it''s'\n");
    }
}
