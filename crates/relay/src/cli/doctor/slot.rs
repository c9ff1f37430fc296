//! The replication slot, and whether it and the checkpoint agree.

use delivery::{Consent, Identity, ServerFacts, SlotFacts, Start};
use pgoutput::Lsn;

use crate::cli::database::all;
use crate::cli::doctor::report::Check;
use crate::config::{Pipeline, SinkKind};
use crate::failure::Failure;
use crate::sink::{self, Recorded};
use crate::source;
use crate::source::catalog::{Catalog, SlotUse};

/// What a slot holds back, beside what [`SlotUse`] says.
#[derive(Debug, Clone, Default)]
struct Hold {
    active_pid: Option<i32>,
    /// WAL that may still be written before the slot is lost; `None` where there is no limit.
    safe_bytes: Option<i64>,
}

const HOLD: &str =
    "SELECT active_pid, safe_wal_size FROM pg_replication_slots WHERE slot_name = $1";

/// Checks the slot by itself.
pub(super) async fn check(catalog: &Catalog, pipeline: &Pipeline) -> Vec<Check> {
    let checked = async {
        let slot = &pipeline.postgres.slot;
        let Some(facts) = catalog.slot(slot).await? else {
            let detail = format!(
                "{slot} does not exist: before the first start that is right, init or the start makes it"
            );
            return Ok(vec![Check::ok("slot", detail)]);
        };
        usable(pipeline, facts)?;
        let usage = catalog.slot_use(slot).await?;
        let rows = all(catalog, HOLD, &[slot]).await?;
        let hold = rows.first().map(|row| Hold {
            active_pid: row.get(0),
            safe_bytes: row.get(1),
        });
        Ok(held(slot, &usage, &hold.unwrap_or_default()))
    };
    let checks: Result<_, Failure> = checked.await;
    checks.unwrap_or_else(|failure| vec![Check::fail("slot", failure)])
}

/// What a start says of the slot, without the rest of a start.
fn usable(pipeline: &Pipeline, slot: SlotFacts) -> Result<(), Failure> {
    let facts = ServerFacts {
        identity: Identity {
            system_identifier: String::new(),
            timeline: 0,
            database: pipeline.postgres.database.clone(),
            slot: pipeline.postgres.slot.clone(),
        },
        wal_end: Lsn::INVALID,
        history: Vec::new(),
        slot: Some(slot),
        fingerprint: delivery::Fingerprint::of(""),
        coverage: delivery::Coverage::default(),
    };
    Ok(delivery::check_slot(&facts)?)
}

fn held(slot: &str, usage: &SlotUse, hold: &Hold) -> Vec<Check> {
    let reader = match hold.active_pid {
        Some(pid) => format!("read by process {pid}"),
        None => "not being read".to_owned(),
    };
    let kept = mebibytes(usage.retained_bytes);
    let state = usage.wal_status.as_deref().unwrap_or("unknown");
    let detail = format!("{slot} is {reader}; WAL kept for it: {kept} ({state})");
    let check = match (state, hold.safe_bytes) {
        ("unreserved", _) => Check::warn(
            "slot",
            format!("{detail}; the next checkpoint of the server removes WAL that it needs"),
            "Start outboxd now, or raise max_slot_wal_keep_size and reload the server at once.",
        ),
        (_, Some(safe)) if safe < usage.retained_bytes => Check::warn(
            "slot",
            format!("{detail}; lost after {} more", mebibytes(safe)),
            "Start outboxd or repair what it waits for, or raise max_slot_wal_keep_size.",
        ),
        (_, Some(_) | None) => Check::ok("slot", detail),
    };
    vec![check]
}

fn mebibytes(bytes: i64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Goes through a start as far as that is possible without disturbing a running relay: a
/// replication connection is opened but does not stream, and the checkpoint is read without
/// fencing anybody.
pub(super) async fn check_start(pipeline: &Pipeline, has_checkpoints: bool) -> Vec<Check> {
    let session = match source::connect(pipeline).await {
        Ok(session) => session,
        Err(failure) => return vec![Check::fail("replication", failure)],
    };
    let opened = format!(
        "a replication connection is accepted (timeline {})",
        session.facts.identity.timeline
    );
    let mut checks = vec![Check::ok("replication", opened)];
    if pipeline.sink == SinkKind::Kafka && has_checkpoints {
        checks.push(match agree(pipeline, session).await {
            Ok(detail) => Check::ok("checkpoint", detail),
            Err(failure) => Check::fail("checkpoint", failure),
        });
    }
    checks
}

/// The slot was read when the session was opened, so before the checkpoint: while a relay moves
/// both, the slot is never ahead. For the same reason the WAL's end is read after it.
async fn agree(pipeline: &Pipeline, session: source::Session) -> Result<String, Failure> {
    let recorded = sink::read_latest(pipeline).await?;
    let checkpoint = recorded.checkpoint.as_ref();
    let mut facts = session.facts;
    facts.wal_end = session.catalog.wal_end().await?;
    let start = delivery::check_start(checkpoint, &facts, Consent::default())?;
    check_exceptions(&recorded, async || sink::read_settled(pipeline).await).await?;
    Ok(match start {
        Start::Create => "none yet: a first start".to_owned(),
        Start::Adopt { at } => format!("the slot was made for outboxd, and is taken up at {at}"),
        Start::Resume(resume) => format!(
            "events are published up to {}, and the slot holds the rest from {} on",
            resume.confirmed_up_to, resume.slot_confirmed
        ),
    })
}

/// While a relay runs, checkpoint and exceptions may have been read on either side of a commit of its, or
/// of one that only one of their partitions shows yet: before they are said to differ they are looked at
/// `again`, settled. If the relay has gone on meanwhile, it counts them itself at its next start.
async fn check_exceptions(
    recorded: &Recorded,
    again: impl AsyncFnOnce() -> Result<Recorded, Failure>,
) -> Result<(), Failure> {
    let Some(checkpoint) = &recorded.checkpoint else {
        return Ok(());
    };
    let count = |recorded: &Recorded| {
        delivery::check_exceptions(checkpoint, &recorded.exceptions, Consent::default())
    };
    if count(recorded).is_ok() {
        return Ok(());
    }
    let settled = again().await?;
    if settled.checkpoint.as_ref() != Some(checkpoint) {
        return Ok(());
    }
    Ok(count(&settled)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use delivery::{Checkpoint, Coverage, Exceptions, Fingerprint, Kind, RevivedRow};

    use super::*;
    use crate::cli::doctor::report::Verdict;
    use crate::sink::opening_checkpoint;

    fn usage(retained_bytes: i64, wal_status: &str) -> SlotUse {
        SlotUse {
            wal_end: Lsn::from(100),
            confirmed_flush: None,
            lag_bytes: 0,
            retained_bytes,
            retained_limit_bytes: None,
            wal_status: Some(wal_status.into()),
        }
    }

    fn verdict(usage: &SlotUse, safe_bytes: Option<i64>) -> Vec<Verdict> {
        let hold = Hold {
            active_pid: None,
            safe_bytes,
        };
        let checks = held("outboxd", usage, &hold);
        checks.iter().map(|c| c.verdict).collect()
    }

    fn recorded(lsn: u64, counted: usize, found: usize) -> Recorded {
        let facts = ServerFacts {
            identity: Identity {
                system_identifier: "7".into(),
                timeline: 1,
                database: "app".into(),
                slot: "outboxd".into(),
            },
            wal_end: Lsn::from(lsn),
            history: Vec::new(),
            slot: None,
            fingerprint: Fingerprint::of(""),
            coverage: Coverage::default(),
        };
        let pipeline = Pipeline::default();
        let checkpoint = Checkpoint {
            exceptions: Some(counted),
            ..opening_checkpoint(Kind::Progress, &facts, Lsn::from(lsn), &pipeline)
        };
        let row = |n: usize| RevivedRow {
            service: "bank".into(),
            table: "public.outbox".into(),
            id: n.to_string(),
        };
        Recorded {
            checkpoint: Some(checkpoint),
            exceptions: Exceptions {
                revived: (0..found).map(row).collect(),
                ..Exceptions::default()
            },
        }
    }

    #[test]
    fn exceptions_are_missed_only_if_they_are_missing_from_what_is_settled() {
        let look = |first: Recorded, settled: Option<Recorded>| {
            let again = async || settled.ok_or_else(|| Failure::new("internal", "looked again"));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let looked = runtime.block_on(check_exceptions(&first, again));
            looked.map_err(|failure| failure.code.name)
        };
        assert_eq!(look(recorded(5, 2, 2), None), Ok(()));
        let late = recorded(5, 2, 1);
        assert_eq!(look(late, Some(recorded(5, 2, 2))), Ok(()), "shown late");
        let before = recorded(5, 2, 1);
        assert_eq!(look(before, Some(recorded(9, 3, 1))), Ok(()), "it goes on");
        let lost = recorded(5, 2, 1);
        assert_eq!(look(lost, Some(recorded(5, 2, 1))), Err("exceptions-lost"));
    }

    #[test]
    fn a_slot_warns_before_it_is_lost() {
        use Verdict::{Ok, Warn};
        assert_eq!(verdict(&usage(1 << 30, "reserved"), None), [Ok]);
        assert_eq!(verdict(&usage(1 << 20, "extended"), Some(1 << 30)), [Ok]);
        assert_eq!(verdict(&usage(1 << 30, "extended"), Some(1 << 20)), [Warn]);
        assert_eq!(verdict(&usage(1 << 20, "unreserved"), Some(-1)), [Warn]);
    }

    #[test]
    fn a_lost_or_foreign_slot_is_told_as_run_tells_it() {
        let check = |plugin: &str, lost: Option<&str>| {
            let slot = SlotFacts {
                plugin: Some(plugin.into()),
                database: Some(Pipeline::default().postgres.database),
                confirmed_flush: Lsn::INVALID,
                lost: lost.map(str::to_owned),
            };
            usable(&Pipeline::default(), slot).map_err(|failure| failure.code.name)
        };
        assert_eq!(check("pgoutput", None), Ok(()));
        assert_eq!(check("test_decoding", None), Err("slot-foreign"));
        assert_eq!(check("pgoutput", Some("wal_removed")), Err("slot-lost"));
    }
}
