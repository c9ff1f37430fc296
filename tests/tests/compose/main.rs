//! docker-compose.yml and the Dockerfile against the real thing: no engine is needed.

#![allow(clippy::unwrap_used)]

mod document;
mod image;
mod live;
mod wiring;
