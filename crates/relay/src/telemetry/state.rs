//! The states of a pipeline.

use serde::Serialize;

/// What a pipeline is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Connecting, fencing, reading the checkpoint. Ends with streaming or a failure.
    Starting,
    /// Another session holds the slot: this one stands by.
    Standby,
    /// Events flow.
    Streaming,
    /// A passing failure: waiting to try again.
    Retrying,
    /// A person must act; re-checked every few seconds.
    Stopped,
    /// Shutting down: publishing what has been taken in.
    Draining,
    /// Over.
    Ended,
}

/// Which part a relay has in a pipeline that several may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It holds the slot and publishes.
    Active,
    /// Another one held the slot when it last looked.
    Standby,
    /// Neither: it starts, retries or is stopped, and would take the slot.
    Candidate,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Standby,
        Self::Streaming,
        Self::Retrying,
        Self::Stopped,
        Self::Draining,
        Self::Ended,
    ];

    /// Its name in metrics and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::Streaming => "streaming",
            Self::Retrying => "retrying",
            Self::Stopped => "stopped",
            Self::Draining => "draining",
            Self::Ended => "ended",
        }
    }
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Active, Self::Standby, Self::Candidate];

    /// Its name in metrics and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Candidate => "candidate",
        }
    }
}
