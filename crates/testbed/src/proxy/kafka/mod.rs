//! What the proxy understands of Kafka's protocol: where frames begin, which request they are, and
//! which response answers which request. Pure: no socket, no lock, no clock.
//!
//! Source: "Kafka protocol guide", sections Protocol Primitive Types, Request and Response Headers.

mod api;
mod exchange;
mod framer;
mod rules;

pub use api::Api;
pub(crate) use exchange::{Exchange, Request};
pub(crate) use framer::{Framer, NotKafka, Piece};
pub(crate) use rules::{Action, Moment, Rules};
