//! A deterministic simulation: the production decoding, mapping and delivery code against a
//! simulated Postgres, Kafka and clock, with a crash possible at every step.
//!
//! ```text
//!            ┌────────── one seed ──────────┐
//!  Writer ─► History ─► Walsender ─► relay processes ─► Broker ─► consumers' view
//!               │          slot ◄─────────┘  (around the real `delivery::Delivery`)   │
//!               └──────────────────────────► Oracle ◄─────────────────────────────────┘
//! ```
//!
//! [`run`] plays one seed. In its first part faults strike: processes are killed, frozen and
//! doubled, connections break, servers crash, requests and answers are lost. Then calm is kept,
//! and everything must arrive within a bounded number of steps. In some runs something is taken that
//! the relay can't do without ([`Sabotage`]): there it must stop. The oracle reads what services
//! wrote, what the server heard and what consumers see, and nothing of the relay.
//!
//! Invariants: whatever happens by chance is drawn from the one [`Dice`]; no task keeps the
//! world over a pause; nothing here decides what the state machine decides.

mod adversity;
mod broker;
mod clock;
mod dice;
mod faults;
mod oracle;
mod relay;
mod sabotage;
mod server;
mod setup;
mod simulation;
mod task;
mod trace;
mod violation;
mod wal;
mod world;

pub use clock::Clock;
pub use dice::Dice;
pub use faults::Fault;
pub use relay::Bug;
pub use sabotage::Sabotage;
pub use setup::Mode;
pub use simulation::{Options, Outcome, run};
pub use violation::Violation;
