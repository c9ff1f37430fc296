//! A relay: the steps from nothing to a stream.

use crate::{Delivery, LANES, Lane, Lsn, Progress};

/// What a producer's epoch is worth at its coordinator. The number itself does not matter: the
/// broker only compares it with the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Epoch {
    /// No producer.
    None,
    /// No producer yet, and this relay has lost the slot: it was asked for once, Kafka aborted the
    /// transaction that it found, and the request is repeated until there is none.
    Waiting,
    /// The newest.
    Current,
    /// An older one: whatever it asks for is refused.
    Fenced,
}

/// How far a relay has come in its session. Nothing of it survives a crash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Session {
    /// Not running, or waiting for the slot.
    Down,
    /// The stream has been started from `from`.
    Held {
        /// The slot's confirmed LSN at that moment.
        from: Lsn,
    },
    /// The slot's row has been read; transactional ids below `fence_to` are being acquired.
    Fencing {
        /// As in `Held`.
        from: Lsn,
        /// The slot's confirmed LSN as read.
        seen: Lsn,
        /// How many ids to acquire.
        fence_to: u8,
        /// The checkpoint, if it was read before (which breaks a rule).
        read: Option<Progress>,
    },
    /// Rows become windows.
    Streaming(Delivery),
    /// A start-up check found a gap.
    Halted,
}

/// One relay process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Relay {
    /// Its session.
    pub session: Session,
    /// Its producers.
    pub epochs: [Epoch; LANES],
}

impl Relay {
    /// Not running.
    pub const DOWN: Self = Self {
        session: Session::Down,
        epochs: [Epoch::None; LANES],
    };

    /// The stream's side of it, once there is one.
    pub fn delivery(&self) -> Option<&Delivery> {
        match &self.session {
            Session::Streaming(delivery) => Some(delivery),
            Session::Down | Session::Held { .. } | Session::Fencing { .. } | Session::Halted => {
                None
            }
        }
    }

    /// Whether it has begun a session that has not ended.
    pub fn is_running(&self) -> bool {
        match self.session {
            Session::Down | Session::Halted => false,
            Session::Held { .. } | Session::Fencing { .. } | Session::Streaming(_) => true,
        }
    }

    /// The transactional ids that it does not have yet.
    pub fn unfenced(&self) -> impl Iterator<Item = Lane> + use<> {
        let count = match self.session {
            Session::Fencing { fence_to, .. } => usize::from(fence_to),
            Session::Down | Session::Held { .. } | Session::Streaming(_) | Session::Halted => 0,
        };
        let epochs = self.epochs;
        (0..count).filter(move |lane| matches!(epochs[*lane], Epoch::None | Epoch::Waiting))
    }
}
