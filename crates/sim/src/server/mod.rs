//! The simulated Postgres: a log, one slot, and the connections to it.

mod connection;
mod slot;

use std::collections::BTreeMap;

use delivery::{SlotFacts, TimelineSwitch};
use pgoutput::Lsn;

use connection::{Connection, Link};
pub use connection::{ConnectionId, Frame, Gone};
use slot::Slot;

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
    slot: Option<Slot>,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: u64,
    notices: Vec<Notice>,
    sends_empty: bool,
}

impl Server {
    /// A server without a slot. `sends_empty`: also transactions without changes.
    pub fn new(writer: Writer, sends_empty: bool) -> Self {
        Self {
            history: History::new(),
            writer,
            state: State::Up,
            switches: Vec::new(),
            slot: None,
            connections: BTreeMap::new(),
            next_connection: 1,
            notices: Vec::new(),
            sends_empty,
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
        let connection = Connection::new(owner, self.timeline(), dice.index(4..150));
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
            lost: None,
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

    /// Starts streaming from the confirmed LSN.
    pub fn start(&mut self, id: ConnectionId) -> Result<(), StartRefusal> {
        self.catalog(id).map_err(StartRefusal::Gone)?;
        let slot = self.slot.as_mut().ok_or(StartRefusal::SlotMissing)?;
        if slot.holder.is_some() {
            return Err(StartRefusal::SlotActive);
        }
        slot.holder = Some(id);
        let walsender = Walsender::new(&self.history, slot.confirmed, self.sends_empty);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.walsender = Some(walsender);
        }
        Ok(())
    }

    /// The next frame that has arrived.
    pub fn receive(&mut self, id: ConnectionId) -> Result<Option<Frame>, Gone> {
        let connection = self.connections.get_mut(&id).ok_or(Gone::Lost)?;
        connection.receive()
    }

    /// The client reports an LSN as flushed.
    pub fn report_flushed(&mut self, id: ConnectionId, lsn: Lsn) {
        let timeline = self.timeline();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.send_feedback(lsn);
        // What is said to a server that was replaced is about another log.
        if connection.timeline == timeline {
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

    /// All backends crash. The slot comes back as last written to disk.
    pub fn crash(&mut self, dice: &mut Dice) {
        self.writer.crash(&mut self.history);
        self.end_all(Gone::Lost, dice);
        if let Some(slot) = &mut self.slot {
            slot.restore();
        }
        self.state = State::Down;
    }

    /// The server dies, and a standby that lacks the end of its log is promoted: the LSNs beyond
    /// are used again.
    pub fn promote(&mut self, dice: &mut Dice) -> bool {
        let Some(created) = self.slot.as_ref().map(|slot| slot.created) else {
            return false;
        };
        let branched = self.switches.last().map(|switch| switch.ends_at);
        let least = created.max(branched.unwrap_or(created));
        let Some(ends_at) = dice.pick(&self.history.ends_from(least)) else {
            return false;
        };
        let timeline = self.timeline();
        self.crash(dice);
        self.history.branch_off(ends_at);
        self.switches.push(TimelineSwitch { timeline, ends_at });
        if let Some(slot) = &mut self.slot {
            slot.fail_over(ends_at);
        }
        true
    }

    /// Fast shutdown begins.
    pub fn stop(&mut self) {
        if self.state != State::Up {
            return;
        }
        self.writer.crash(&mut self.history);
        self.state = State::Stopping;
        for connection in self.connections.values_mut() {
            connection.catalog = Err(Gone::ShuttingDown);
        }
    }

    /// Starts again, if it is down.
    pub fn restart(&mut self, dice: &mut Dice) {
        match self.state {
            State::Up => {}
            State::Stopping => {
                self.crash(dice);
                self.state = State::Up;
            }
            State::Down => self.state = State::Up,
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
            let stopping = self.state == State::Stopping;
            connection.send(&self.history, stopping, dice);
        } else if dice.one_in(8) {
            // A closed socket soon, a silent peer at wal_sender_timeout.
            let forgotten = connection.abandoned;
            self.release(id);
            if forgotten {
                self.connections.remove(&id);
            }
        }
    }

    fn end_all(&mut self, why: Gone, dice: &mut Dice) {
        for connection in self.connections.values_mut() {
            connection.close(why, dice);
        }
        if let Some(slot) = &mut self.slot {
            slot.holder = None;
        }
    }

    /// A fast shutdown ends once the walsender has nothing to wait for; or patience ends.
    fn go_down(&mut self, dice: &mut Dice) {
        let end = self.history.end();
        let slot = self.slot.as_mut();
        let waits = slot.is_some_and(|slot| slot.holder.is_some() && slot.confirmed < end);
        if !waits {
            if let Some(slot) = &mut self.slot {
                slot.persist();
            }
            self.end_all(Gone::ShuttingDown, dice);
            self.state = State::Down;
        } else if dice.one_in(200) {
            self.crash(dice);
        }
    }
}
