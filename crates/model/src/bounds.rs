//! How much is explored.

use crate::{RELAYS, Wal};

/// How often each fault may happen in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    /// A relay dies; it starts again at any later time.
    pub crashes: u8,
    /// The server ends the connection that holds the slot; the relay need not notice.
    pub disconnects: u8,
    /// The database server crashes, and the slot goes back.
    pub server_crashes: u8,
    /// A request to Kafka gets no answer; it arrives at any later time.
    pub unanswered: u8,
    /// A Kafka transaction exceeds its timeout though its producer lives.
    pub expiries: u8,
    /// Keepalives that report WAL without rows.
    pub keepalives: u8,
    /// A request arrives twice, the second time whenever it likes.
    pub duplicates: u8,
}

/// What is explored.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The source.
    pub wal: Wal,
    /// Rows after which a window is full (`batch.max_bytes`).
    pub window_rows: u8,
    /// Producers of each relay (`concurrency`).
    pub rings: [u8; RELAYS],
    /// Faults.
    pub budget: Budget,
}

impl Budget {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        crashes: 0,
        disconnects: 0,
        server_crashes: 0,
        unanswered: 0,
        expiries: 0,
        keepalives: 0,
        duplicates: 0,
    };
    /// One of each that the protocol must stand.
    pub const ONE: Self = Self {
        crashes: 1,
        disconnects: 1,
        server_crashes: 1,
        unanswered: 1,
        expiries: 1,
        keepalives: 1,
        duplicates: 0,
    };
}

impl Bounds {
    /// Two relays with rings of that size.
    pub fn new(rows: &[u8], window_rows: u8, ring: u8, budget: Budget) -> Self {
        Self {
            wal: Wal::new(rows),
            window_rows,
            rings: [ring; RELAYS],
            budget,
        }
    }
}
