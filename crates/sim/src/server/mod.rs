//! The simulated Postgres: a log, one slot, and the connections to it.

mod clients;
mod connection;
mod power;
mod rows;
mod slot;
mod tampering;

use std::collections::BTreeMap;
use std::time::Duration;

use delivery::TimelineSwitch;
use pgoutput::Lsn;

use connection::Connection;
pub use connection::{ConnectionId, Frame, Gone};
pub use rows::{Condition, RowState};
use slot::Slot;

use crate::setup::Setup;
use crate::wal::{History, Writer};
use crate::{Clock, Dice};

/// The database's name.
pub const DATABASE: &str = "app";
/// The slot's name.
pub const SLOT: &str = "outboxd";
/// Once in so many steps the slot's state is written to disk, as a checkpoint does.
const PERSISTED_EVERY: u64 = 30;

/// Once in so many steps the standby catches up.
const RECEIVED_EVERY: u64 = 200;

/// What the server heard and did, for the oracle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The slot was created; what commits from here on is in its stream.
    SlotCreated(Lsn),
    /// A client asked where the WAL ends, and then looked at the publication.
    Looked(ConnectionId, Lsn),
    /// A client reported an LSN as flushed.
    Feedback(ConnectionId, Lsn),
    /// A client read a keepalive.
    Heard {
        /// Which client.
        connection: ConnectionId,
        /// What the keepalive says.
        wal_end: Lsn,
        /// The server asked for a reply.
        asked: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    /// Fast shutdown: clients are gone, walsenders wait until all is sent and confirmed.
    Stopping,
    Down,
}

/// Why streaming can't start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartRefusal {
    /// Another connection holds the slot.
    SlotActive,
    /// There is no slot.
    SlotMissing,
    /// WAL that the slot needs is gone.
    SlotLost,
    /// No connection any more.
    Gone(Gone),
}

/// The server.
#[derive(Debug)]
pub struct Server {
    /// What has been written.
    pub history: History,
    writer: Writer,
    state: State,
    /// Where each past timeline ended.
    switches: Vec<TimelineSwitch>,
    /// Where the log ended when another one took its place: promotions and restores.
    branches: Vec<Lsn>,
    slot: Option<Slot>,
    rows: rows::Rows,
    /// For how long a fast shutdown has waited for a client that could have left.
    held_up: Duration,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: u64,
    notices: Vec<Notice>,
    /// Transactions without changes too.
    sends_empty: bool,
    asks_every: u64,
    /// Nothing is streamed that the standby has not received (`synchronized_standby_slots`).
    is_synchronised: bool,
    /// How far the standby has received the log, if it counts.
    received: Lsn,
}

impl Server {
    /// A server without a slot.
    pub fn new(writer: Writer, setup: &Setup) -> Self {
        Self {
            history: History::new(),
            writer,
            state: State::Up,
            switches: Vec::new(),
            branches: Vec::new(),
            slot: None,
            rows: rows::Rows::default(),
            held_up: Duration::ZERO,
            connections: BTreeMap::new(),
            next_connection: 1,
            notices: Vec::new(),
            sends_empty: setup.sends_empty,
            asks_every: setup.asks_every,
            is_synchronised: setup.is_synchronised,
            received: Lsn::INVALID,
        }
    }

    /// The present timeline.
    pub fn timeline(&self) -> u32 {
        1 + self.switches.len() as u32
    }

    /// Where each past timeline ended.
    pub fn switches(&self) -> &[TimelineSwitch] {
        &self.switches
    }

    /// Where the log ended each time that another one took its place.
    pub fn branches(&self) -> &[Lsn] {
        &self.branches
    }

    /// The log was put back on the same timeline.
    pub fn is_restored(&self) -> bool {
        self.branches.len() > self.switches.len()
    }

    /// Everything of note so far.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// How far the slot is confirmed.
    pub fn confirmed(&self) -> Option<Lsn> {
        self.slot.as_ref().map(|slot| slot.confirmed)
    }

    /// Whether a connection streams from the slot.
    pub fn is_holder(&self, id: ConnectionId) -> bool {
        let slot = self.slot.as_ref();
        slot.is_some_and(|slot| slot.holder == Some(id))
    }

    /// Whether a connection is up at both ends and streams.
    pub fn is_streaming(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(&id);
        self.is_holder(id) && connection.is_some_and(Connection::is_alive)
    }

    /// Whether anybody streams.
    pub fn is_held(&self) -> bool {
        self.slot.as_ref().is_some_and(|slot| slot.holder.is_some())
    }

    /// For how long a fast shutdown has waited for a client that could have left.
    pub fn held_up(&self) -> Duration {
        self.held_up
    }

    /// Where the log ends.
    pub fn log_end(&self) -> Lsn {
        self.history.end()
    }

    /// Whether the standbys that count have received the log up to there.
    pub fn is_received(&self, lsn: Lsn) -> bool {
        !self.is_synchronised || self.received >= lsn
    }

    /// Nothing more will be written.
    pub fn is_written(&self) -> bool {
        self.writer.is_done()
    }

    /// Clients write.
    pub fn write(&mut self, clock: &Clock, dice: &mut Dice) {
        if self.state == State::Up {
            self.writer.step(&mut self.history, clock, dice);
            self.rows.extend(&self.history);
        }
    }

    /// The server's own work: sending, hearing, noticing.
    pub fn step(&mut self, dice: &mut Dice) {
        if self.state == State::Down {
            if dice.one_in(10) {
                self.state = State::Up;
            }
            return;
        }
        if dice.one_in(PERSISTED_EVERY)
            && let Some(slot) = &mut self.slot
        {
            slot.persist();
        }
        if dice.one_in(RECEIVED_EVERY) {
            self.received = self.history.end();
        }
        let ids: Vec<_> = self.connections.keys().copied().collect();
        if let Some(id) = dice.pick(&ids) {
            self.serve(id, dice);
        }
        if self.state == State::Stopping {
            self.go_down(dice);
        }
    }

    fn catalog(&self, id: ConnectionId) -> Result<(), Gone> {
        self.connections.get(&id).ok_or(Gone::Lost)?.catalog()
    }

    fn serve(&mut self, id: ConnectionId, dice: &mut Dice) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.is_heard()
            && dice.one_in(2)
            && let Some(lsn) = connection.take_feedback()
            && let Some(slot) = &mut self.slot
        {
            slot.confirm(id, lsn);
        }
        if connection.is_alive() {
            let asks_every = match self.state {
                State::Stopping => 1,
                State::Up | State::Down => self.asks_every,
            };
            connection.send(&self.history, asks_every, dice);
            self.received = self.received.max(connection.streamed());
        } else if dice.one_in(8) {
            // A closed socket soon, a silent peer at wal_sender_timeout.
            let forgotten = connection.abandoned;
            self.release(id);
            if forgotten {
                self.connections.remove(&id);
            }
        }
    }
}
