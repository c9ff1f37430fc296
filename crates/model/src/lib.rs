//! A model of how outboxd publishes exactly once: slot, fencing, checkpoint, windows, confirmation.
//!
//! ```text
//!  Wal ──► Slot ──► Relay (two of them) ──► Network ──► Broker (coordinators, events, checkpoints)
//!            ▲          │
//!            └─ confirm ┘     faults: crash, lost connection, server crash, unanswered request, …
//! ```
//!
//! [`Protocol`] is the state machine that the checker explores: every interleaving of every step
//! and fault within [`Bounds`]. [`Rule`] takes one rule of the protocol away, to prove that the
//! properties would notice. The README says what is covered and which production function each
//! action stands for.

mod action;
mod bounds;
mod broker;
mod delivery;
mod explore;
mod fault;
mod network;
mod properties;
mod protocol;
mod relay;
mod rule;
mod state;
mod step;
mod suite;
mod wal;

pub use action::{Action, Fault};
pub use bounds::{Bounds, Budget};
pub use broker::{Broker, CheckpointRecord, Coordinator, EventRecord, Phase, Visibility};
pub use delivery::{Delivery, Stage, Window};
pub use explore::{Outcome, Violation, explore, explore_for};
pub use network::{Message, Request};
pub use protocol::Protocol;
pub use relay::{Epoch, Relay, Session};
pub use rule::Rule;
pub use state::{Slot, State};
pub use suite::{Scenario, counterexample_bounds, deep, known_limit, quick};
pub use wal::{Lsn, Position, Progress, RowId, Wal};

/// Which of the two relays.
pub type RelayId = usize;
/// Number of a producer in a ring: its transactional id ends in it.
pub type Lane = usize;
/// Which transactional id, as the broker counts them.
pub type CoordinatorId = usize;

/// Relays that want the slot.
pub const RELAYS: usize = 2;
/// Producers in a ring at most.
pub const LANES: usize = 2;
