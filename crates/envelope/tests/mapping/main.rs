//! Rows to records, through the public interface.
#![allow(clippy::unwrap_used)]

mod allocation;
mod arena;
mod compilation;
mod fixture;
mod headers;
mod properties;
mod routing;
mod values;
