//! The state of everything: what is durable, what is in memory, what is under way.

use crate::{Broker, Budget, LANES, Message, RELAYS, Relay, RelayId};

/// The replication slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slot {
    /// `confirmed_flush_lsn` in memory.
    pub confirmed: crate::Lsn,
    /// The least that is on disk: a server crash goes back no further.
    pub persisted: crate::Lsn,
    /// Whose connection streams from it.
    pub holder: Option<RelayId>,
}

/// One state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// Postgres.
    pub slot: Slot,
    /// The relays.
    pub relays: [Relay; RELAYS],
    /// Kafka.
    pub broker: Broker,
    /// Requests under way, sorted.
    pub network: Vec<Message>,
    /// Faults that may still happen.
    pub left: Budget,
}

impl State {
    /// The slot exists, its creation is recorded, and nothing has been published.
    pub fn new(ring: u8, budget: Budget) -> Self {
        Self {
            slot: Slot {
                confirmed: 0,
                persisted: 0,
                holder: None,
            },
            relays: [Relay::DOWN; RELAYS],
            broker: Broker::new(ring),
            network: Vec::new(),
            left: budget,
        }
    }

    /// Sends a request to Kafka.
    pub fn send(&mut self, message: Message) {
        self.network.push(message);
        self.tidy();
    }

    /// Takes a request off the network.
    pub fn take(&mut self, message: Message) {
        if let Some(index) = self.network.iter().position(|m| *m == message) {
            self.network.remove(index);
        }
    }

    /// A relay forgets everything. Its connection closes; its requests are still under way.
    pub fn end_session(&mut self, relay: RelayId) {
        self.relays[relay] = Relay::DOWN;
        if self.slot.holder == Some(relay) {
            self.slot.holder = None;
        }
        self.disown(|sender| sender == relay);
    }

    /// Nobody waits any more for the answers to these requests.
    pub fn disown(&mut self, whose: impl Fn(RelayId) -> bool) {
        for message in &mut self.network {
            message.sender = message.sender.filter(|sender| !whose(*sender));
        }
        self.tidy();
    }

    /// What will be refused, with nobody to hear of it, changes nothing any more.
    pub fn tidy(&mut self) {
        self.network
            .retain(|m| m.sender.is_some() || !m.is_refused());
        self.network.sort_unstable();
    }

    /// Every relay's producers.
    pub fn lanes() -> impl Iterator<Item = (RelayId, usize)> {
        (0..RELAYS).flat_map(|relay| (0..LANES).map(move |lane| (relay, lane)))
    }
}
