//! docker-compose.yml against the real thing: no engine is needed.

pub mod document;
mod live;
mod wiring;
