//! Handles each event once.
#![allow(dead_code, unused_imports)]
mod claim;
mod dead_letter;
mod error;
mod event;
mod failure;
mod handler;
mod handlers;
mod metrics;
mod order;
pub mod testing;
mod trace;
mod work;
pub use crate::event::{Event, Source};
pub use deadpool_postgres::{Pool, Transaction};
pub use error::Error;
pub use failure::Failure;
pub use handler::{BatchHandler, Handler};
pub use handlers::{Handlers, Unknown};
pub use metrics::Lag;
pub use order::Retry;
pub use work::Once;
/// X.
pub struct ConsumerBuilder;
impl ConsumerBuilder {
    /// X.
    pub fn batch(&self) {}
}
