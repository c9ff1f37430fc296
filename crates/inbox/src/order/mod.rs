//! Which event may run when, how far a partition is handled, and how late it is. Pure.

mod lane;
mod progress;
mod retry;
mod schedule;

pub(crate) use lane::{Lane, Slot};
pub(crate) use progress::Progress;
pub use retry::Retry;
pub(crate) use retry::{Attempts, Next};
pub(crate) use schedule::Schedule;
