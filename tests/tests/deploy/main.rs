//! What outboxd is deployed with: image, docker-compose.yml, Kubernetes manifests, systemd unit, package.

#![allow(clippy::unwrap_used)]

mod compose;
mod image;
mod kubernetes;
mod package;
mod systemd;
