//! What clients ask for, and what becomes of their connections.

use delivery::SlotFacts;
use pgoutput::Lsn;

use super::connection::{Connection, ConnectionId, Frame, Gone, Link};
use super::slot::Slot;
use super::{DATABASE, Notice, Server, StartRefusal, State};
use crate::Dice;
use crate::wal::Walsender;
use crate::world::ProcessId;

impl Server {
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
}
