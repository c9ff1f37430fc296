//! The server and its settings.

use std::collections::HashMap;

use crate::cli::database::{MAY_STREAM, Visit, all, one};
use crate::cli::doctor::report::Check;
use crate::cli::problem::Problem;
use crate::config::{HostAddr, Pipeline, Postgres, SslMode};
use crate::failure::Failure;
use crate::source::catalog::Catalog;

/// Major versions that the tests run against.
const OLDEST: i32 = 14;
const NEWEST: i32 = 18;
/// An outage that writes more WAL than `max_slot_wal_keep_size` loses the slot.
const SMALL_KEEP_MB: i64 = 1024;

/// What the checks look at.
#[derive(Debug, Clone, Default)]
pub(super) struct ServerReadings {
    pub version: i32,
    pub settings: HashMap<String, String>,
    pub user: String,
    pub streams: bool,
    /// TLS version of our own connection.
    pub tls: Option<String>,
    pub slots_used: i64,
    pub senders_used: i64,
    /// The slot is there, and somebody streams from it.
    pub has_slot: bool,
    pub slot_is_active: bool,
}

const SLOTS: &str = "SELECT (SELECT count(*) FROM pg_replication_slots), \
       (SELECT count(*) FROM pg_stat_replication), count(*) > 0, coalesce(bool_or(active), false) \
     FROM pg_replication_slots WHERE slot_name = $1";

/// `current_setting` gives the units too, which `pg_settings.setting` leaves out.
const SETTINGS: &str = "SELECT name, setting FROM pg_settings WHERE name IN ('wal_level', \
       'max_replication_slots', 'max_wal_senders', 'max_slot_wal_keep_size', \
       'synchronous_standby_names', 'server_version') \
     UNION ALL SELECT name, current_setting(name) FROM pg_settings \
       WHERE name = 'idle_replication_slot_timeout'";

impl ServerReadings {
    /// Reads them.
    pub async fn read(catalog: &Catalog, slot: &str) -> Result<Self, Failure> {
        let settings = all(catalog, SETTINGS, &[]).await?;
        let role = format!(
            "SELECT current_user::text, {MAY_STREAM}, \
               (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl) \
             FROM pg_roles r WHERE rolname = current_user"
        );
        let role = one(catalog, &role, &[]).await?;
        let slots = one(catalog, SLOTS, &[&slot]).await?;
        Ok(Self {
            version: catalog.server_version(),
            settings: settings.iter().map(|r| (r.get(0), r.get(1))).collect(),
            user: role.get(0),
            streams: role.get(1),
            tls: role.get(2),
            slots_used: slots.get(0),
            senders_used: slots.get(1),
            has_slot: slots.get(2),
            slot_is_active: slots.get(3),
        })
    }

    fn text(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// Walsenders that could be had.
    pub fn free_senders(&self) -> i64 {
        self.number("max_wal_senders") - self.senders_used
    }

    /// Every check of the server.
    pub fn check(&self, pipeline: &Pipeline) -> Vec<Check> {
        vec![
            self.version(),
            self.tls(&pipeline.postgres),
            self.wal_level(),
            self.role(),
            self.slots(),
            self.senders(),
            self.kept_wal(),
            self.idle_timeout(),
            self.synchronous_standbys(&pipeline.postgres.application_name),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn version(&self) -> Option<Check> {
        let name = "server-version";
        let detail = format!("PostgreSQL {}", self.text("server_version"));
        Some(match self.version / 10_000 {
            OLDEST..=NEWEST => Check::ok(name, detail),
            major if major > NEWEST => Check::warn(
                name,
                format!("{detail} is newer than this version of outboxd knows"),
                "Look for a newer outboxd; this one may work.",
            ),
            _ => Check::fail(
                name,
                Problem::new(
                    format!("{detail} is too old"),
                    format!("Upgrade the server to {OLDEST} or later."),
                ),
            ),
        })
    }

    fn tls(&self, postgres: &Postgres) -> Option<Check> {
        let name = "tls";
        let is_remote = postgres.hosts.iter().any(|h| !h.host.is_local());
        let over_socket = |h: &crate::config::Host| matches!(h.host, HostAddr::Unix(_));
        Some(match (&self.tls, postgres.sslmode) {
            (None, _) if !is_remote => Check::ok(name, "not used, and the server is local"),
            (None, _) => Check::warn(
                name,
                "rows cross the network unencrypted",
                "Set sslmode to verify-full, or keep disable if the network is trusted.",
            ),
            (Some(version), SslMode::Require) if is_remote => Check::warn(
                name,
                format!("{version}, but the server is not verified"),
                "Set sslmode to verify-full, and sslrootcert if the authority is your own.",
            ),
            (Some(version), _) if postgres.hosts.iter().all(over_socket) => {
                Check::ok(name, version)
            }
            (Some(version), mode) => Check::ok(name, format!("{version}, {mode}")),
        })
    }

    fn wal_level(&self) -> Option<Check> {
        let level = self.text("wal_level");
        Some(match level {
            "logical" => Check::ok("wal-level", level),
            _ => Check::fail(
                "wal-level",
                Failure::new("wal-level", format!("the server's wal_level is {level:?}")),
            ),
        })
    }

    fn role(&self) -> Option<Check> {
        let user = &self.user;
        Some(if self.streams {
            Check::ok("role", format!("{user} may stream"))
        } else {
            let message = format!("role {user:?} lacks the REPLICATION attribute");
            Check::fail("role", Failure::new("replication-denied", message))
        })
    }

    fn slots(&self) -> Option<Check> {
        let max = self.number("max_replication_slots");
        let detail = format!("{} of {max} replication slots are in use", self.slots_used);
        let needed = i64::from(!self.has_slot);
        Some(enough(
            "replication-slots",
            detail,
            max - self.slots_used >= needed,
        ))
    }

    fn senders(&self) -> Option<Check> {
        let max = self.number("max_wal_senders");
        let detail = format!("{} of {max} walsenders are in use", self.senders_used);
        let needed = i64::from(!self.slot_is_active);
        Some(enough("walsenders", detail, self.free_senders() >= needed))
    }

    fn kept_wal(&self) -> Option<Check> {
        let name = "max-slot-wal-keep-size";
        let setting = "max_slot_wal_keep_size";
        Some(match self.number(setting) {
            -1 => Check::warn(
                name,
                "unlimited: while outboxd or Kafka is down, kept WAL can fill the disk",
                "Set max_slot_wal_keep_size to what the disk can spare, well above the WAL of the \
                 longest outage; beyond it the slot is lost.",
            ),
            mb if mb < SMALL_KEEP_MB => Check::warn(
                name,
                format!("{mb} MB: an outage in which more WAL is written loses the slot"),
                "Raise max_slot_wal_keep_size well above the WAL of the longest outage.",
            ),
            mb => Check::ok(name, format!("{mb} MB")),
        })
    }

    /// From 18 on.
    fn idle_timeout(&self) -> Option<Check> {
        let name = "idle-slot-timeout";
        match self.settings.get("idle_replication_slot_timeout")?.as_str() {
            "0" => Some(Check::ok(name, "off")),
            limit => Some(Check::warn(
                name,
                format!("{limit}: the server gives the slot up when outboxd is away for longer"),
                "Set idle_replication_slot_timeout to 0, or well above the longest time that \
                 outboxd may be stopped.",
            )),
        }
    }

    fn synchronous_standbys(&self, application_name: &str) -> Option<Check> {
        let name = "synchronous-standbys";
        let names = self.text("synchronous_standby_names");
        if !waits_for(names, application_name) {
            return Some(Check::ok(name, "no commit waits for outboxd"));
        }
        let problem = Problem::new(
            format!(
                "synchronous_standby_names = {names:?} takes outboxd ({application_name:?}) for a \
                 standby: commits would wait for Kafka"
            ),
            "Name the real standbys in synchronous_standby_names instead of \"*\", or set another \
             postgres.application_name.",
        );
        Some(Check::fail(name, problem))
    }
}

fn enough(name: &'static str, detail: String, is_enough: bool) -> Check {
    if is_enough {
        Check::ok(name, detail)
    } else {
        Check::fail(name, Failure::new("slots-exhausted", detail))
    }
}

/// Whether a walsender of this application name counts as a synchronous standby: named in the
/// list, in either case, or matched by `*` (`SyncRepGetStandbyPriority` in `syncrep.c`).
fn waits_for(names: &str, application_name: &str) -> bool {
    // `FIRST 2 (a, b)`, `ANY 1 (*)`, `2 (a, b)` or a bare list.
    let list = match names.split_once('(') {
        Some((method, rest)) if !method.contains('"') => rest.trim_end().trim_end_matches(')'),
        Some(_) | None => names,
    };
    let mut entries = list.split(',').map(str::trim);
    entries.any(|entry| {
        let quoted = entry.strip_prefix('"').and_then(|e| e.strip_suffix('"'));
        let name = quoted.map_or(entry.to_owned(), |q| q.replace("\"\"", "\""));
        name == "*" || name.eq_ignore_ascii_case(application_name)
    })
}

/// Which hosts can be reached, and which one is the primary.
pub(super) fn check_hosts(visits: &[Visit]) -> Vec<Check> {
    let name = "host";
    let has_primary = visits
        .iter()
        .any(|v| matches!(&v.outcome, Ok(server) if server.is_primary));
    let mut checks: Vec<_> = visits
        .iter()
        .map(|visit| match &visit.outcome {
            Ok(server) if server.is_primary => {
                Check::ok(name, format!("{} is the primary", visit.host))
            }
            Ok(_) => Check::ok(name, format!("{} is a standby", visit.host)),
            Err(failure) if has_primary => Check::fail(name, failure.clone()).softened(),
            Err(failure) => Check::fail(name, failure.clone()),
        })
        .collect();
    let is_reachable = visits.iter().any(|visit| visit.outcome.is_ok());
    if is_reachable && !has_primary {
        let failure = Failure::new("postgres-unreachable", "no host is the primary");
        checks.push(Check::fail(name, failure));
    }
    checks
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
