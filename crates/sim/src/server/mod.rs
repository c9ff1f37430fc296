//! The simulated Postgres: a log, one slot, and the connections to it.

mod connection;
mod power;
mod slot;
mod tampering;

use std::collections::BTreeMap;
use std::time::Duration;

use delivery::{SlotFacts, TimelineSwitch};
use pgoutput::Lsn;

use connection::{Connection, Link};
pub use connection::{ConnectionId, Frame, Gone};
use slot::Slot;

use crate::setup::Setup;
use crate::wal::{History, Walsender, Writer};
use crate::world::ProcessId;
use crate::{Clock, Dice};

/// The database's name.
pub const DATABASE: &str = "app";
/// The slot's name.
pub const SLOT: &str = "outboxd";
/// Once in so many steps the slot's state is written to disk, as a checkpoint does.
const PERSISTED_EVERY: u64 = 30;

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
    /// For how long a fast shutdown has waited for a client that could have left.
    held_up: Duration,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: u64,
    notices: Vec<Notice>,
    /// Transactions without changes too.
    sends_empty: bool,
    asks_every: u64,
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
            held_up: Duration::ZERO,
            connections: BTreeMap::new(),
            next_connection: 1,
            notices: Vec::new(),
            sends_empty: setup.sends_empty,
            asks_every: setup.asks_every,
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

    /// Nothing more will be written.
    pub fn is_written(&self) -> bool {
        self.writer.is_done()
    }

    /// Clients write.
    pub fn write(&mut self, clock: &Clock, dice: &mut Dice) {
        if self.state == State::Up {
            self.writer.step(&mut self.history, clock, dice);
        }
    }

    /// Opens a connection of a process.
    pub fn connect(&mut self, owner: ProcessId, dice: &mut Dice) -> Result<ConnectionId, Gone> {
        if self.state != State::Up {
            return Err(Gone::ShuttingDown);
        }
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let connection = Connection::new(owner, self.branches.len(), dice.index(4..150));
        self.connections.insert(id, connection);
        Ok(id)
    }

    /// End of the WAL, followed by a look at the publication, which is always found intact.
    pub fn look(&mut self, id: ConnectionId) -> Result<Lsn, Gone> {
        self.catalog(id)?;
        let end = self.history.end();
        self.notices.push(Notice::Looked(id, end));
        Ok(end)
    }

    /// The slot's row.
    pub fn slot_facts(&self, id: ConnectionId) -> Result<Option<SlotFacts>, Gone> {
        self.catalog(id)?;
        Ok(self.slot.as_ref().map(|slot| SlotFacts {
            plugin: Some("pgoutput".to_owned()),
            database: Some(DATABASE.to_owned()),
            confirmed_flush: slot.confirmed,
            lost: slot.is_lost.then(|| "wal_removed".to_owned()),
        }))
    }

    /// End of the flushed WAL.
    pub fn wal_end(&self, id: ConnectionId) -> Result<Lsn, Gone> {
        self.catalog(id)?;
        Ok(self.history.end())
    }

    /// Creates the slot once no transaction is running; `None` until then.
    pub fn create_slot(&mut self, id: ConnectionId) -> Result<Option<Lsn>, StartRefusal> {
        self.catalog(id).map_err(StartRefusal::Gone)?;
        if self.slot.is_some() {
            return Err(StartRefusal::SlotActive);
        }
        if !self.writer.is_quiet() {
            return Ok(None);
        }
        self.history.append(60);
        let at = self.history.end();
        self.slot = Some(Slot::new(at));
        self.notices.push(Notice::SlotCreated(at));
        Ok(Some(at))
    }

    /// Starts streaming from the confirmed LSN, or from `at` if that is higher
    /// (`CreateDecodingContext` in `logical.c`).
    pub fn start(&mut self, id: ConnectionId, at: Lsn) -> Result<(), StartRefusal> {
        self.catalog(id).map_err(StartRefusal::Gone)?;
        let slot = self.slot.as_mut().ok_or(StartRefusal::SlotMissing)?;
        if slot.holder.is_some() {
            return Err(StartRefusal::SlotActive);
        }
        if slot.is_lost {
            return Err(StartRefusal::SlotLost);
        }
        slot.holder = Some(id);
        let from = slot.confirmed.max(at);
        let walsender = Walsender::new(&self.history, from, self.sends_empty);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.walsender = Some(walsender);
        }
        Ok(())
    }

    /// The next frame that has arrived.
    pub fn receive(&mut self, id: ConnectionId) -> Result<Option<Frame>, Gone> {
        let connection = self.connections.get_mut(&id).ok_or(Gone::Lost)?;
        let received = connection.receive();
        if let Ok(Some(Frame::Keepalive {
            wal_end,
            reply_requested,
        })) = &received
        {
            self.notices.push(Notice::Heard {
                connection: id,
                wal_end: *wal_end,
                asked: *reply_requested,
            });
        }
        received
    }

    /// The client reports an LSN as flushed.
    pub fn report_flushed(&mut self, id: ConnectionId, lsn: Lsn) {
        let era = self.branches.len();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.send_feedback(lsn);
        // What is said to a server that was replaced is about another log.
        if connection.era == era {
            self.notices.push(Notice::Feedback(id, lsn));
        }
    }

    /// Feedback that has not reached the server.
    pub fn feedback_is_out(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(&id);
        connection.is_some_and(|c| c.is_alive() && c.has_feedback())
    }

    /// The client's end is closed; the server learns of it some time.
    pub fn hang_up(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.abandoned = true;
        }
    }

    /// Connections that a fault can hit.
    pub fn living_connections(&self) -> Vec<ConnectionId> {
        let living = self.connections.iter().filter(|(_, c)| c.is_alive());
        living.map(|(id, _)| *id).collect()
    }

    /// Its connections.
    pub fn connections_of(&self, owner: ProcessId) -> Vec<ConnectionId> {
        let own = self.connections.iter().filter(|(_, c)| c.owner == owner);
        own.map(|(id, _)| *id).collect()
    }

    /// Neither end is told that packets no longer pass.
    pub fn cut(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.link = Link::Cut;
        }
    }

    /// The server gives a connection up, and so frees the slot.
    pub fn release(&mut self, id: ConnectionId) {
        if let Some(slot) = &mut self.slot
            && slot.holder == Some(id)
        {
            slot.holder = None;
        }
    }

    /// The server ends a connection; what was sent before may still be read, or not.
    pub fn disconnect(&mut self, id: ConnectionId, dice: &mut Dice) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.close(Gone::Lost, dice);
        }
        self.release(id);
    }

    /// The catalog connection of a session ends, not its stream.
    pub fn end_catalog(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.catalog = Err(Gone::Lost);
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
