//! Starts throwaway Postgres and Kafka servers as ordinary processes.
//!
//! ```text
//!  Maven Central ─► cache ─► binaries, jars ─► run folder ─► server process
//!                 (once per machine)        (one per server)      │
//!                                    tests ── faults: kill9, pause, Proxy ──┘
//! ```
//!
//! Everything here blocks and needs no async runtime. Linux only. Invariants:
//! - A server never outlives the process that started it, not even when that process is killed
//!   with SIGKILL (module `process`; test `servers_die_with_a_killed_parent`).
//! - Each server has its own ports and folder; two runs never share either.
//! - Started as root, Postgres runs as another user (`postgres`, else `nobody`), because it
//!   refuses root.
//! - Every wait has a bound.
//!
//! The folder of a server is removed with it, unless the test panicked or `TESTBED_KEEP=1` is
//! set; then its path is printed.

mod account;
mod authority;
mod cache;
mod client;
mod error;
mod kafka;
mod log;
mod maven;
mod packages;
mod port;
mod postgres;
mod process;
mod procfs;
mod proxy;
mod run_folder;
mod server;
mod tool;
mod wait;

pub use authority::{Authority, Issued, Usage};
pub use client::Program;
pub use error::{Error, Result};
pub use kafka::{KAFKA_VERSION, Kafka, KafkaBuilder, KafkaCluster};
pub use packages::{node_modules, python};
pub use port::free_port;
pub use postgres::{DataCopy, PASSWORD, Postgres, PostgresBuilder, Row, SUPERUSER, StopMode};
pub use procfs::{cpu_seconds, family_cpu_seconds, threads_cpu_seconds, vm_hwm_kib};
pub use proxy::{Api, Direction, Proxy};
pub use run_folder::RunFolder;
