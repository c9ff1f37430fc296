//! The decision at every start, reconnect and takeover: go on, or stop because of a gap.

use std::collections::BTreeSet;

use pgoutput::Lsn;

use crate::{
    Checkpoint, Coverage, Exceptions, Fingerprint, Halt, Identity, Kind, Resume,
    TransactionPosition,
};

/// A row of `pg_replication_slots`.
#[derive(Debug, Clone)]
pub struct SlotFacts {
    /// Output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// The slot's database; `None` for a physical slot.
    pub database: Option<String>,
    /// `confirmed_flush_lsn`.
    pub confirmed_flush: Lsn,
    /// Why the server has given the slot up, if it has.
    pub lost: Option<String>,
}

/// Where a past timeline of the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimelineSwitch {
    /// The timeline.
    pub timeline: u32,
    /// The first LSN that is not on it any more.
    pub ends_at: Lsn,
}

/// What the server says of itself, read on the session that then streams.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// Cluster, timeline, database and the configured slot.
    pub identity: Identity,
    /// End of the flushed WAL.
    pub wal_end: Lsn,
    /// The past timelines of the server.
    pub history: Vec<TimelineSwitch>,
    /// The slot, if it exists.
    pub slot: Option<SlotFacts>,
    /// Of the publication and protocol options.
    pub fingerprint: Fingerprint,
    /// The publication and the configured tables.
    pub coverage: Coverage,
}

/// What the operator has looked into and takes the responsibility for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Consent {
    /// A slot without a record may be taken over.
    pub adopt_slot: bool,
    /// The publication may be gone on with as it is now: the token of that coverage.
    pub publication: Option<Fingerprint>,
    /// Exceptions that were lost may be gone on without: the token of that state.
    pub exceptions: Option<Fingerprint>,
}

/// How to start.
#[derive(Debug, Clone)]
pub enum Start {
    /// Nothing exists yet: record the intent, create the slot, record the genesis.
    Create,
    /// The slot exists and is ours (or is to be adopted): record the genesis at its LSN.
    Adopt {
        /// The slot's `confirmed_flush_lsn`.
        at: Lsn,
    },
    /// Stream, skipping what the checkpoint covers.
    Resume(Box<Resume>),
}

/// Decides from the committed checkpoint and the server how to start.
pub fn check_start(
    checkpoint: Option<&Checkpoint>,
    server: &ServerFacts,
    consent: Consent,
) -> Result<Start, Halt> {
    check_slot(server)?;
    let Some(checkpoint) = checkpoint else {
        return start_without_record(server, consent.adopt_slot);
    };
    check_identity(&checkpoint.identity, &server.identity)?;
    if checkpoint.kind == Kind::Repair {
        return Err(repair_unfinished(server));
    }
    if let Some(before) = &checkpoint.coverage {
        check_coverage(before, &server.coverage, consent)?;
    }
    match (checkpoint.kind, &server.slot) {
        (Kind::Repair, _) => Err(repair_unfinished(server)),
        (Kind::Intent, None) => Ok(Start::Create),
        (Kind::Intent, Some(_)) if checkpoint.feed.is_some() => Err(Halt::BackfillUnfinished {
            slot: server.identity.slot.clone(),
        }),
        (Kind::Intent, Some(slot)) => Ok(Start::Adopt {
            at: slot.confirmed_flush,
        }),
        (Kind::Genesis | Kind::Progress, None) => Err(Halt::SlotMissing {
            slot: server.identity.slot.clone(),
            confirmed_up_to: checkpoint.confirmed_up_to,
        }),
        (Kind::Genesis | Kind::Progress, Some(slot)) => {
            resume(checkpoint, server, slot).map(|resume| Start::Resume(Box::new(resume)))
        }
    }
}

fn repair_unfinished(server: &ServerFacts) -> Halt {
    Halt::RepairUnfinished {
        slot: server.identity.slot.clone(),
    }
}

fn start_without_record(server: &ServerFacts, adopt_slot: bool) -> Result<Start, Halt> {
    match &server.slot {
        None => Ok(Start::Create),
        Some(slot) if adopt_slot => Ok(Start::Adopt {
            at: slot.confirmed_flush,
        }),
        Some(_) => Err(Halt::SlotWithoutRecord {
            slot: server.identity.slot.clone(),
        }),
    }
}

/// Whether the slot, if there is one, is a living pgoutput slot of this database.
pub fn check_slot(server: &ServerFacts) -> Result<(), Halt> {
    let identity = &server.identity;
    let Some(slot) = &server.slot else {
        return Ok(());
    };
    let foreign = |reason: String| Halt::SlotForeign {
        slot: identity.slot.clone(),
        reason,
    };
    match slot.plugin.as_deref() {
        Some("pgoutput") => {}
        Some(plugin) => return Err(foreign(format!("its plugin is {plugin:?}, not pgoutput"))),
        None => return Err(foreign("it is a physical slot".into())),
    }
    match &slot.database {
        Some(database) if *database == identity.database => {}
        other => {
            let database = other.as_deref().unwrap_or("none");
            return Err(foreign(format!("it belongs to database {database:?}")));
        }
    }
    match &slot.lost {
        Some(reason) => Err(Halt::SlotLost {
            slot: identity.slot.clone(),
            reason: reason.clone(),
        }),
        None => Ok(()),
    }
}

/// Whether the publication has been the same since `before`, or the operator accepts it as it is.
pub fn check_coverage(before: &Coverage, now: &Coverage, consent: Consent) -> Result<(), Halt> {
    let token = now.token();
    match now.change_since(before) {
        Some(change) if consent.publication != Some(token) => Err(Halt::CoverageChanged {
            change,
            token,
            given: consent.publication,
        }),
        Some(_) | None => Ok(()),
    }
}

/// Whether the exceptions that hold beside the checkpoint are all there, or the operator goes on with
/// those that are.
pub fn check_exceptions(
    checkpoint: &Checkpoint,
    found: &Exceptions,
    consent: Consent,
) -> Result<(), Halt> {
    let found = found.len();
    let Some(recorded) = checkpoint.exceptions.filter(|count| *count != found) else {
        return Ok(());
    };
    let state = format!("{} {found} {recorded}", checkpoint.confirmed_up_to);
    let token = Fingerprint::of(&state);
    if consent.exceptions == Some(token) {
        return Ok(());
    }
    Err(Halt::ExceptionsLost {
        recorded,
        found,
        token,
        given: consent.exceptions,
    })
}

/// Whether a checkpoint is of this database and slot. Timelines may differ.
pub fn check_identity(recorded: &Identity, found: &Identity) -> Result<(), Halt> {
    let same = recorded.system_identifier == found.system_identifier
        && recorded.database == found.database
        && recorded.slot == found.slot;
    if same {
        return Ok(());
    }
    let name = |i: &Identity| {
        format!(
            "system {}, database {:?}, slot {:?}",
            i.system_identifier, i.database, i.slot
        )
    };
    Err(Halt::ForeignSystem {
        recorded: name(recorded),
        found: name(found),
    })
}

fn resume(checkpoint: &Checkpoint, server: &ServerFacts, slot: &SlotFacts) -> Result<Resume, Halt> {
    let void_from = void_from(checkpoint, server)?;
    let Valid {
        position,
        floor,
        confirmed_up_to,
    } = still_valid(checkpoint, void_from);
    if server.wal_end < confirmed_up_to {
        return Err(Halt::WalBehind {
            wal_end: server.wal_end,
            confirmed_up_to,
        });
    }
    if slot.confirmed_flush > confirmed_up_to {
        return Err(Halt::SlotAhead {
            slot: server.identity.slot.clone(),
            slot_confirmed: slot.confirmed_flush,
            confirmed_up_to,
        });
    }
    check_fingerprint(checkpoint, position, server)?;
    Ok(Resume {
        position,
        floor,
        confirmed_up_to,
        slot_confirmed: slot.confirmed_flush,
        settled_below: checkpoint.settled_below.min(beginning_of_void(void_from)),
        void_from,
        feed: checkpoint.feed.clone(),
        whole_tables: whole_tables(checkpoint, server),
        exceptions: Exceptions::default(),
    })
}

/// The tables that the stream has covered all the time since they were recorded as whole.
fn whole_tables(checkpoint: &Checkpoint, server: &ServerFacts) -> BTreeSet<String> {
    let (before, now) = (&checkpoint.coverage, &server.coverage);
    let unbroken = before.as_ref().filter(|b| now.change_since(b).is_none());
    let Some(before) = unbroken else {
        return BTreeSet::new();
    };
    let is_covered = |t: &&String| before.tables.contains_key(*t) && now.tables.contains_key(*t);
    let whole = checkpoint.whole_tables.iter();
    whole.filter(is_covered).cloned().collect()
}

/// What of the checkpoint holds on the server's timeline.
///
/// A position beyond the switch point names a transaction that this server does not have, and its
/// LSN will be used again: it must not live on in later checkpoints. As transactions are published
/// in order, it proves that everything below the switch point has been.
fn still_valid(checkpoint: &Checkpoint, void_from: Option<Lsn>) -> Valid {
    let void = beginning_of_void(void_from);
    match checkpoint.position {
        Some(position) if position.commit_lsn.0 >= void => Valid {
            position: None,
            floor: void,
            confirmed_up_to: void,
        },
        position => Valid {
            position,
            floor: checkpoint.floor.min(void),
            confirmed_up_to: checkpoint.confirmed_up_to.min(void),
        },
    }
}

fn beginning_of_void(void_from: Option<Lsn>) -> Lsn {
    void_from.unwrap_or(Lsn::from(u64::MAX))
}

/// What [`still_valid`] leaves of a checkpoint.
struct Valid {
    position: Option<TransactionPosition>,
    floor: Lsn,
    confirmed_up_to: Lsn,
}

/// Where the checkpoint's timeline ended, if the server has left it.
fn void_from(checkpoint: &Checkpoint, server: &ServerFacts) -> Result<Option<Lsn>, Halt> {
    let recorded = checkpoint.identity.timeline;
    if recorded == server.identity.timeline {
        return Ok(None);
    }
    match server
        .history
        .iter()
        .find(|switch| switch.timeline == recorded)
    {
        Some(switch) => Ok(Some(switch.ends_at)),
        None => Err(Halt::TimelineLost {
            recorded,
            found: server.identity.timeline,
        }),
    }
}

fn check_fingerprint(
    checkpoint: &Checkpoint,
    position: Option<TransactionPosition>,
    server: &ServerFacts,
) -> Result<(), Halt> {
    match position {
        Some(position) if !position.complete && checkpoint.fingerprint != server.fingerprint => {
            Err(Halt::FingerprintChanged {
                commit_lsn: position.commit_lsn,
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "startup_tests.rs"]
mod tests;
