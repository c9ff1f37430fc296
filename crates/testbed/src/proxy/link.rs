use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::proxy::Direction;

/// The state that all connections of a proxy share, and what they wait on.
#[derive(Debug)]
pub(crate) struct Link {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    listening: bool,
    delay: Duration,
    bytes_per_s: Option<u64>,
    to_server: Lane,
    to_client: Lane,
    connections: HashMap<ConnectionId, [Arc<TcpStream>; 2]>,
    next_id: u64,
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

/// One way of the link.
#[derive(Debug)]
struct Lane {
    frozen: bool,
    /// When a throttled lane has sent all that it promised so far.
    busy_until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(u64);

/// The way of one writer; [`Direction`] without "both".
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

impl Link {
    pub fn new() -> Link {
        let lane = || Lane {
            frozen: false,
            busy_until: Instant::now(),
        };
        let state = State {
            phase: Phase::Open,
            listening: true,
            delay: Duration::ZERO,
            bytes_per_s: None,
            to_server: lane(),
            to_client: lane(),
            connections: HashMap::new(),
            next_id: 0,
        };
        Link {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    pub fn cut(&self) {
        self.change(|state| {
            state.phase = Phase::Cut;
            state.close_all();
        });
    }

    pub fn close(&self) {
        self.change(|state| {
            state.phase = Phase::Closed;
            state.close_all();
        });
    }

    pub fn freeze(&self, direction: Direction) {
        self.change(|state| {
            state.to_server.frozen |= direction != Direction::ToClient;
            state.to_client.frozen |= direction != Direction::ToServer;
        });
    }

    pub fn delay(&self, delay: Duration) {
        self.change(|state| state.delay = delay);
    }

    pub fn throttle(&self, bytes_per_s: u64) {
        self.change(|state| state.bytes_per_s = Some(bytes_per_s.max(1)));
    }

    pub fn heal(&self) {
        self.change(|state| {
            state.phase = Phase::Open;
            state.delay = Duration::ZERO;
            state.bytes_per_s = None;
            for lane in [&mut state.to_server, &mut state.to_client] {
                *lane = Lane {
                    frozen: false,
                    busy_until: Instant::now(),
                };
            }
        });
    }

    pub fn connections(&self) -> usize {
        self.lock().connections.len()
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
        let outcome = self
            .changed
            .wait_timeout_while(self.lock(), within, waiting);
        let (state, _) = outcome.unwrap_or_else(PoisonError::into_inner);
        state.listening == wanted
    }

    /// Waits while the link is cut; false when the proxy ends.
    pub fn await_healing(&self) -> bool {
        let cut = |state: &mut State| state.phase == Phase::Cut;
        let state = self.changed.wait_while(self.lock(), cut);
        state.unwrap_or_else(PoisonError::into_inner).phase == Phase::Open
    }

    /// Enters a connection that `cut` will close; none if it came too late.
    pub fn enter(&self, sockets: [Arc<TcpStream>; 2]) -> Option<ConnectionId> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return None;
        }
        state.next_id += 1;
        let id = ConnectionId(state.next_id);
        state.connections.insert(id, sockets);
        Some(id)
    }

    /// Closes one connection, whichever side ended it.
    pub fn leave(&self, id: ConnectionId) {
        self.change(|state| {
            state
                .connections
                .remove(&id)
                .iter()
                .flatten()
                .for_each(|socket| shut(socket));
        });
    }

    /// How large a piece a writer should ask leave for: a twentieth of a second's worth.
    pub fn piece_bytes(&self) -> usize {
        let rate = self.lock().bytes_per_s;
        let piece = rate.and_then(|rate| usize::try_from(rate / 20).ok());
        piece.unwrap_or(usize::MAX).max(1)
    }

    /// Waits until bytes that arrived at `arrived` may go on; false when their connection is
    /// closed.
    pub fn await_leave(&self, id: ConnectionId, way: Way, arrived: Instant, bytes: usize) -> bool {
        let mut state = self.lock();
        let mut booked = None;
        loop {
            if !state.connections.contains_key(&id) {
                return false;
            }
            let now = Instant::now();
            let due = state.due(way, arrived, bytes, now, &mut booked);
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

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When the bytes may go on, none while frozen. A throttled lane is booked once.
    fn due(
        &mut self,
        way: Way,
        arrived: Instant,
        bytes: usize,
        now: Instant,
        booked: &mut Option<Instant>,
    ) -> Option<Instant> {
        let rate = self.bytes_per_s;
        let lane = match way {
            Way::ToServer => &mut self.to_server,
            Way::ToClient => &mut self.to_client,
        };
        if lane.frozen {
            return None;
        }
        let delayed = arrived + self.delay;
        let Some(rate) = rate else {
            return Some(delayed);
        };
        let sent = booked.get_or_insert_with(|| {
            let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
            lane.busy_until = lane.busy_until.max(now) + takes;
            lane.busy_until
        });
        Some(delayed.max(*sent))
    }

    fn close_all(&mut self) {
        self.connections
            .drain()
            .for_each(|(_, sockets)| sockets.iter().for_each(|s| shut(s)));
    }
}

fn shut(socket: &TcpStream) {
    // Fails when the peer has closed already.
    let _ = socket.shutdown(Shutdown::Both);
}
