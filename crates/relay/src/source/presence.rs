//! What standbys tell each other, and the active relay: whether they reach Kafka.
//!
//! It stands in the application name of a standby's catalog session, which every role may read in
//! `pg_stat_activity`, so no other service is needed for it.

use super::catalog::{Catalog, Holder};
use crate::config::Pipeline;
use crate::failure::Failure;

/// The server cuts names off here (`NAMEDATALEN` - 1).
const NAME_BYTES: usize = 63;

/// What a standby's last look at Kafka came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaReport {
    /// It could publish.
    Ok,
    /// It could not.
    Trouble,
}

/// A standby looks at the slot twice a second. One that does not is frozen or cut off, and its name
/// stands there all the same. The last two columns may be read of sessions of the same role; a
/// name that another role gives itself is no matter.
const ABLE: &str = "SELECT pid, application_name, host(client_addr) FROM pg_stat_activity \
     WHERE datname = current_database() AND usename = session_user \
     AND pid <> pg_backend_pid() AND right(application_name, length($1)) = $1 \
     AND state_change > clock_timestamp() - interval '3 seconds' ORDER BY pid LIMIT 1";

impl Catalog {
    /// Tells the other relays of this pipeline what this standby's look at Kafka came to.
    pub async fn report(&self, pipeline: &Pipeline, report: KafkaReport) -> Result<(), Failure> {
        let name = name(
            &pipeline.postgres.application_name,
            &pipeline.slot_name(),
            report,
        );
        let sql = "SELECT set_config('application_name', $1, false)";
        self.one(sql, &[&name]).await.map(drop)
    }

    /// Another relay that stands by for this pipeline, works, and reaches Kafka.
    pub async fn able_standby(&self, pipeline: &Pipeline) -> Result<Option<Holder>, Failure> {
        let ending = ending(&pipeline.slot_name(), KafkaReport::Ok);
        let rows = self.all(ABLE, &[&ending]).await?;
        Ok(rows.first().map(|row| Holder {
            pid: row.get(0),
            application_name: row.get(1),
            is_relay: true,
            client: row.get(2),
        }))
    }
}

/// The configured name, as far as there is room, and the report. Only what the server takes as it
/// is: it would make other characters longer.
fn name(application_name: &str, slot: &str, report: KafkaReport) -> String {
    let ending = ending(slot, report);
    let plain = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    let room = NAME_BYTES.saturating_sub(ending.len());
    let mut name: String = application_name.chars().take(room).map(plain).collect();
    name.push_str(&ending);
    name
}

/// Pipelines of one database differ in their slots, whose names may be too long to be repeated.
fn ending(slot: &str, report: KafkaReport) -> String {
    let report = match report {
        KafkaReport::Ok => "kafka-ok",
        KafkaReport::Trouble => "kafka-trouble",
    };
    format!(" standby {report} {:08x}", fnv1a(slot.as_bytes()))
}

/// FNV-1a: the same in every version of outboxd.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_ending_whatever_they_begin_with() {
        let long = "a relay with a name of more than sixty-three bytes, for whatever reason";
        for configured in ["outboxd", "", long, "Ümläut\u{1F980}\n"] {
            for report in [KafkaReport::Ok, KafkaReport::Trouble] {
                let name = name(configured, "outboxd", report);
                assert!(name.len() <= NAME_BYTES && name.is_ascii(), "{name:?}");
                assert!(!name.contains(|c: char| c.is_control()), "{name:?}");
                assert!(name.ends_with(&ending("outboxd", report)), "{name:?}");
            }
        }
        let name = name("outboxd", "outboxd", KafkaReport::Ok);
        assert_eq!(name, "outboxd standby kafka-ok 1c1033ac");
    }

    #[test]
    fn reports_and_slots_are_told_apart() {
        let ok = ending("outboxd", KafkaReport::Ok);
        assert_ne!(ok, ending("outboxd", KafkaReport::Trouble));
        assert_ne!(ok, ending("outboxd_2", KafkaReport::Ok));
    }
}
