//! The delivery logic of outboxd, without any IO.
//!
//! ```text
//!  changes ──► Tables ──► OpenWindow ──► flight (windows in Kafka) ──► Front ──► ConfirmedLsn
//!  (pgoutput)  (map row)  (group)        produce → acked → committed   (min of what is recorded
//!                                                                       and what is verified)
//! ```
//!
//! [`Delivery`] takes what happened (`handle_*`, with the time as an argument) and says what to do
//! ([`Delivery::poll_action`]). It has no clock, socket, thread or random source, so the same code
//! runs in the relay and in the simulator.
//!
//! Invariants, each checked by an assertion that stays on in release builds or by a type:
//! * only [`Front`] makes a [`ConfirmedLsn`], and never one above what a committed checkpoint
//!   holds or above the LSN up to which the publication is known to be intact;
//! * windows commit in the order in which they were made: one linear checkpoint;
//! * a window is produced only after every record of the one before it is acknowledged (in
//!   exactly-once mode), so per-partition order is commit order.

mod action;
mod backoff;
mod breaker;
mod checkpoint;
mod clock;
mod control;
mod coverage;
mod exception;
mod feed;
mod flight;
mod front;
mod halt;
mod lessons;
mod machine;
mod marks;
mod opening;
mod parking;
mod place;
mod record_key;
mod refusal;
mod resume;
mod settings;
mod startup;
mod tables;
mod topics;
mod transaction;
mod verdict;
mod window;
mod write_back;

pub use action::Action;
pub use backoff::{Backoff, RetryPolicy};
pub use checkpoint::{
    CHECKPOINT_FORMAT, Checkpoint, CheckpointError, Identity, Kind, TransactionPosition,
};
pub use control::{CONTROL_SCHEMA, CONTROL_TABLE, Command, Filter, Request};
pub use coverage::{Coverage, Fingerprint, NoFingerprint};
pub use exception::{DeadRow, Exception, Exceptions, ParkedKey, RevivedRow};
pub use feed::{Fed, FedRow, FeedProgress};
pub use flight::WindowId;
pub use front::{ConfirmedLsn, Front};
pub use halt::Halt;
pub use lessons::Lessons;
pub use machine::Delivery;
pub use machine::Redelivered;
pub use marks::{Mark, Marks, Outcome};
pub use opening::{Opened, Opener};
pub use place::{Place, Places};
pub use record_key::{NotHex, NotSha256, RecordKey, Shown};
pub use refusal::{Refusal, RefusalCause, RefusedEvent};
pub use resume::Resume;
pub use settings::{OnDeadLetter, Recording, Settings, TablePolicy};
pub use startup::{
    Consent, ServerFacts, SlotFacts, Start, TimelineSwitch, check_coverage, check_exceptions,
    check_identity, check_slot, check_start,
};
pub use tables::Tables;
pub use topics::Answer;
pub use verdict::{Class, Verdict};
pub use window::Progress;
pub use write_back::{MarksId, WriteBack};
