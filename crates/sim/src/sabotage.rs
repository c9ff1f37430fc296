//! Gaps: what takes from the relay something that it needs, so that it must stop and say so.
//!
//! A run has at most one. Once the relay has stopped for it, the run is over: it is watched for a
//! while longer, and then judged by what may still be judged. Where the gap turns out to be none
//! (the slot was moved no farther than the checkpoint), the relay must go on instead.

use delivery::{Checkpoint, Halt, Kind};

use crate::world::World;

/// A kind of gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The server removes WAL that the slot needs.
    LosesSlot,
    /// Somebody drops the slot.
    DropsSlot,
    /// Somebody drops the slot and makes another one.
    RecreatesSlot,
    /// Somebody moves the slot forward.
    AdvancesSlot,
    /// Somebody empties the checkpoint topic.
    LosesCheckpoint,
    /// Somebody deletes what the checkpoint topic holds of parked keys and dead rows.
    LosesExceptions,
    /// The server is put back to an older copy of its disk.
    Restores,
}

impl Sabotage {
    /// Each of them.
    pub const ALL: [Self; 7] = [
        Self::LosesSlot,
        Self::DropsSlot,
        Self::RecreatesSlot,
        Self::AdvancesSlot,
        Self::LosesCheckpoint,
        Self::LosesExceptions,
        Self::Restores,
    ];

    /// The sabotage of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|sabotage| sabotage.name() == name)
    }

    /// What the trace and the counts call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::LosesSlot => "slot-lost",
            Self::DropsSlot => "slot-dropped",
            Self::RecreatesSlot => "slot-recreated",
            Self::AdvancesSlot => "slot-advanced",
            Self::LosesCheckpoint => "checkpoint-lost",
            Self::LosesExceptions => "exceptions-lost",
            Self::Restores => "restored",
        }
    }

    /// What counts call a stop for it.
    pub fn stop_name(self) -> &'static str {
        match self {
            Self::LosesSlot => "stopped-slot-lost",
            Self::DropsSlot => "stopped-slot-dropped",
            Self::RecreatesSlot => "stopped-slot-recreated",
            Self::AdvancesSlot => "stopped-slot-advanced",
            Self::LosesCheckpoint => "stopped-checkpoint-lost",
            Self::LosesExceptions => "stopped-exceptions-lost",
            Self::Restores => "stopped-restored",
        }
    }
}

/// Lets it happen, if the relay has recorded its start (before, nothing can tell) and there is
/// something to take.
pub fn strike(sabotage: Sabotage, world: &mut World) -> bool {
    if newest(world).is_none_or(|c| c.kind == Kind::Intent) {
        return false;
    }
    let holds_exceptions = counted(world) > 0;
    let (server, dice) = (&mut world.server, &mut world.dice);
    let struck = match sabotage {
        Sabotage::LosesSlot => server.lose_slot(dice),
        Sabotage::DropsSlot => server.drop_slot(),
        Sabotage::RecreatesSlot => server.recreate_slot(),
        Sabotage::AdvancesSlot => server.advance_slot(dice),
        Sabotage::LosesCheckpoint | Sabotage::LosesExceptions if server.is_held() => false,
        Sabotage::LosesExceptions if !holds_exceptions => false,
        Sabotage::LosesExceptions => {
            world.broker.empty_exceptions();
            true
        }
        Sabotage::LosesCheckpoint => {
            world.broker.empty_checkpoints();
            true
        }
        Sabotage::Restores => server.restore(dice),
    };
    if struck {
        world.say(|| format!("GAP {}", sabotage.name()));
        world.trace.count(sabotage.name());
        world.sabotage = Some(sabotage);
    }
    struck
}

/// Whether what has happened is a reason to stop in this way.
pub fn explains(world: &World, halt: &Halt) -> bool {
    let Some(sabotage) = world.sabotage else {
        return false;
    };
    match (sabotage, halt) {
        (Sabotage::LosesSlot, Halt::SlotLost { .. })
        | (Sabotage::DropsSlot, Halt::SlotMissing { .. })
        | (
            Sabotage::Restores,
            Halt::WalBehind { .. }
            | Halt::TransactionMissing { .. }
            | Halt::TransactionForeign { .. },
        ) => true,
        // A dropped slot may be made anew by a relay that is still at its first start.
        (
            Sabotage::RecreatesSlot | Sabotage::AdvancesSlot | Sabotage::DropsSlot,
            Halt::SlotAhead { .. },
        ) => slot_is_ahead(world),
        // A relay that is on its way out may write a checkpoint behind what was lost.
        (Sabotage::LosesExceptions | Sabotage::LosesCheckpoint, Halt::ExceptionsLost { .. }) => {
            true
        }
        (Sabotage::LosesCheckpoint, Halt::SlotWithoutRecord { .. }) => newest(world).is_none(),
        _ => false,
    }
}

/// Something is gone for good, and yet nobody may have noticed.
pub fn demands_a_stop(world: &World) -> bool {
    match world.sabotage {
        Some(Sabotage::LosesSlot | Sabotage::DropsSlot) => true,
        Some(Sabotage::LosesCheckpoint) => newest(world).is_none(),
        Some(Sabotage::LosesExceptions) => counted(world) != world.broker.held_exceptions(),
        Some(Sabotage::RecreatesSlot | Sabotage::AdvancesSlot | Sabotage::Restores) | None => false,
    }
}

/// The slot is beyond what any committed checkpoint covers.
fn slot_is_ahead(world: &World) -> bool {
    let confirmed = world.server.confirmed();
    newest(world).is_none_or(|checkpoint| {
        checkpoint.identity.timeline != world.server.timeline()
            || confirmed.is_some_and(|confirmed| confirmed > checkpoint.confirmed_up_to)
    })
}

/// How many exceptions hold, as the newest checkpoint counts them.
fn counted(world: &World) -> usize {
    newest(world).and_then(|c| c.exceptions).unwrap_or(0)
}

fn newest(world: &World) -> Option<Checkpoint> {
    let newest = world.broker.newest_checkpoint()?;
    Checkpoint::decode(newest.message.value.as_deref()?).ok()
}
