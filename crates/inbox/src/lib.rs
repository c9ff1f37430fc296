//! Handles each event once.
#![allow(dead_code, unused_imports)]
mod event;
mod failure;
mod handler;
mod handlers;
mod order;
pub use crate::event::{Event, Source};
pub use deadpool_postgres::{Pool, Transaction};
pub use failure::Failure;
pub use handler::{BatchHandler, Handler};
pub use handlers::{Handlers, Unknown};
pub use order::Retry;
/// X.
pub struct ConsumerBuilder;
impl ConsumerBuilder {
    /// X.
    pub fn batch(&self) {}
}
