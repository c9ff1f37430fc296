//! The state that all connections of a proxy share, and what they wait on.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::proxy::Direction;
use crate::proxy::kafka::{Exchange, Rules};
use crate::proxy::lane::{Lane, Way};

#[derive(Debug)]
pub(crate) struct Link {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
pub(super) struct State {
    phase: Phase,
    listening: bool,
    to_server: Lane,
    to_client: Lane,
    connections: HashMap<ConnectionId, Connection>,
    next_id: u64,
    pub(super) rules: Rules,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// From the start, and after `heal`.
    Open,
    /// From `cut` until `heal`.
    Cut,
    /// From the drop of the proxy on.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(u64);

#[derive(Debug)]
pub(super) struct Connection {
    client: Arc<TcpStream>,
    server: Arc<TcpStream>,
    /// The client is cut off and the server does not know; until `heal`.
    severed: bool,
    pub(super) exchange: Exchange,
}

impl Connection {
    pub(super) fn hang_up(&self) {
        shut(&self.client);
    }

    fn close(&self) {
        self.hang_up();
        shut(&self.server);
    }
}

impl Link {
    pub fn new() -> Link {
        let state = State {
            phase: Phase::Open,
            listening: true,
            to_server: Lane::new(),
            to_client: Lane::new(),
            connections: HashMap::new(),
            next_id: 0,
            rules: Rules::default(),
        };
        Link {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    pub fn cut(&self) {
        self.end(Phase::Cut);
    }

    pub fn close(&self) {
        self.end(Phase::Closed);
    }

    fn end(&self, phase: Phase) {
        self.change(|state| {
            state.phase = phase;
            state.close(|_| true);
        });
    }

    pub fn freeze(&self, direction: Direction) {
        self.change_lanes(direction, |lane| lane.frozen = true);
    }

    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.change_lanes(direction, |lane| lane.delay = delay);
    }

    pub fn throttle(&self, direction: Direction, bytes_per_s: u64) {
        self.change_lanes(direction, |lane| {
            lane.bytes_per_s = Some(bytes_per_s.max(1));
        });
    }

    pub fn sever_clients(&self) {
        self.change(|state| {
            for connection in state.connections.values_mut() {
                connection.severed = true;
                connection.hang_up();
            }
        });
    }

    pub fn heal(&self) {
        self.change(|state| {
            state.phase = Phase::Open;
            state.close(|connection| connection.severed);
            state.rules.clear();
            for way in Way::BOTH {
                *state.lane(way) = Lane::new();
            }
        });
    }

    /// How many connections reach from a client to the server.
    pub fn connections(&self) -> usize {
        let state = self.lock();
        let connections = state.connections.values();
        connections.filter(|connection| !connection.severed).count()
    }

    pub fn takes_connections(&self) -> bool {
        self.lock().phase == Phase::Open
    }

    pub fn set_listening(&self, listening: bool) {
        self.change(|state| state.listening = listening);
    }

    /// Whether the port was open, or closed, as wanted within the bound.
    pub fn await_listening(&self, wanted: bool, within: Duration) -> bool {
        let waiting = |state: &mut State| state.listening != wanted;
        self.wait_while(self.lock(), within, waiting).listening == wanted
    }

    /// Waits while the link is cut; false when the proxy ends.
    pub fn await_healing(&self) -> bool {
        let cut = |state: &mut State| state.phase == Phase::Cut;
        let state = self.changed.wait_while(self.lock(), cut);
        state.unwrap_or_else(PoisonError::into_inner).phase == Phase::Open
    }

    /// Enters a connection that `cut` will close; none if it came too late.
    pub fn enter(&self, client: &Arc<TcpStream>, server: &Arc<TcpStream>) -> Option<ConnectionId> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return None;
        }
        state.next_id += 1;
        let id = ConnectionId(state.next_id);
        let connection = Connection {
            client: Arc::clone(client),
            server: Arc::clone(server),
            severed: false,
            exchange: Exchange::default(),
        };
        state.connections.insert(id, connection);
        Some(id)
    }

    /// Closes one connection, whichever side ended it. A severed one stays until `heal`.
    pub fn leave(&self, id: ConnectionId) {
        self.change(|state| {
            let ends = |connection: &mut Connection| !connection.severed;
            if state.connection(id).is_some_and(ends) {
                let removed = state.connections.remove(&id);
                removed.iter().for_each(Connection::close);
            }
        });
    }

    /// How large a piece a writer should ask leave for.
    pub fn piece_bytes(&self, way: Way) -> usize {
        self.lock().lane(way).piece_bytes()
    }

    /// Waits until bytes that arrived at `arrived` may go on; false when their connection is
    /// closed.
    pub fn await_leave(&self, id: ConnectionId, way: Way, arrived: Instant, bytes: usize) -> bool {
        let mut state = self.lock();
        let mut booked = None;
        loop {
            let now = Instant::now();
            let due = match state.connection(id) {
                None => return false,
                Some(connection) if connection.severed => None,
                Some(_) => state.lane(way).due(arrived, bytes, now, &mut booked),
            };
            state = match due {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(due) if due > now => {
                    let outcome = self.changed.wait_timeout(state, due - now);
                    outcome.unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => return true,
            };
        }
    }

    fn change_lanes(&self, direction: Direction, change: impl Fn(&mut Lane)) {
        self.change(|state| {
            let ways = Way::BOTH.into_iter();
            ways.filter(|way| way.is_in(direction))
                .for_each(|way| change(state.lane(way)));
        });
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.lock());
        self.changed.notify_all();
        outcome
    }

    pub(super) fn wait_while<'a>(
        &self,
        state: MutexGuard<'a, State>,
        within: Duration,
        waiting: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        let outcome = self.changed.wait_timeout_while(state, within, waiting);
        outcome.unwrap_or_else(PoisonError::into_inner).0
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(&id)
    }

    fn lane(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::ToServer => &mut self.to_server,
            Way::ToClient => &mut self.to_client,
        }
    }

    fn close(&mut self, which: impl Fn(&Connection) -> bool) {
        let closing = |_: &ConnectionId, connection: &mut Connection| which(connection);
        self.connections
            .extract_if(closing)
            .for_each(|(_, connection)| connection.close());
    }
}

fn shut(socket: &TcpStream) {
    // Fails when the peer has closed already.
    let _ = socket.shutdown(Shutdown::Both);
}
