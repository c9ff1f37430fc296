//! What becomes of a frame: the rules applied to one connection.

use std::time::Duration;

use crate::proxy::kafka::{Action, Moment, Request};
use crate::proxy::lane::Way;
use crate::proxy::link::{ConnectionId, Link, State};

/// A server that does not answer a late request within this time will not.
const LATE_ANSWER_WITHIN: Duration = Duration::from_secs(30);
const UNTIL_RELEASED: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Forward,
    /// This frame is dropped.
    Drop,
    /// The connection ends here.
    Close,
}

impl Link {
    /// Judges the frame that begins with `piece`; waits while it is held back.
    pub fn judge(&self, id: ConnectionId, way: Way, piece: &[u8]) -> Verdict {
        match way {
            Way::ToServer => self.judge_request(id, piece),
            Way::ToClient => self.change(|state| state.judge_response(id, piece)),
        }
    }

    fn judge_request(&self, id: ConnectionId, piece: &[u8]) -> Verdict {
        let Some(request) = Request::parse(piece) else {
            return Verdict::Close;
        };
        match self.change(|state| state.asked(id, request)) {
            Some(Action::HoldRequest(time)) => self.hold(id, request, time),
            Some(Action::StrandRequest) => {
                self.change(|state| state.hang_up(id));
                self.hold(id, request, None)
            }
            Some(Action::CutBeforeRequest) => Verdict::Close,
            Some(Action::SwallowResponse | Action::CutAfterRequest) | None => Verdict::Forward,
        }
    }

    fn hold(&self, id: ConnectionId, request: Request, time: Option<Duration>) -> Verdict {
        let releases = self.change(|state| {
            state.rules.holding += 1;
            if let Some(connection) = state.connection(id) {
                connection.exchange.hold(request);
            }
            state.rules.releases
        });
        let held =
            |state: &mut State| state.rules.releases == releases && state.connection(id).is_some();
        let mut state = self.wait_while(self.lock(), time.unwrap_or(UNTIL_RELEASED), held);
        state.rules.holding -= 1;
        match state.connection(id) {
            Some(_) => Verdict::Forward,
            None => Verdict::Close,
        }
    }

    /// The client can't be written to. Whether its connection to the server goes on without it,
    /// for the answer to a request that was held back.
    pub fn goes_on_without_client(&self, id: ConnectionId) -> bool {
        self.change(|state| {
            let exchange = state
                .connection(id)
                .map(|connection| &mut connection.exchange);
            exchange.is_some_and(|exchange| {
                exchange.muted |= exchange.owes_answers();
                exchange.owes_answers()
            })
        })
    }

    /// Waits until every request that was held back is answered, or can't be any more.
    pub fn await_late_answers(&self, id: ConnectionId) {
        let owed = |state: &mut State| {
            let connection = state.connection(id);
            connection.is_some_and(|connection| connection.exchange.owes_answers())
        };
        drop(self.wait_while(self.lock(), LATE_ANSWER_WITHIN, owed));
    }

    /// The server ended its stream.
    pub fn server_ended(&self, id: ConnectionId) {
        self.change(|state| {
            if let Some(connection) = state.connection(id) {
                connection.exchange.give_up();
            }
        });
    }

    pub fn release(&self) {
        self.change(|state| state.rules.releases += 1);
    }

    /// Waits until so many requests are held back; whether there are.
    pub fn await_holding(&self, count: usize, within: Duration) -> bool {
        let fewer = |state: &mut State| state.rules.holding < count;
        self.wait_while(self.lock(), within, fewer).rules.holding >= count
    }
}

impl State {
    fn asked(&mut self, id: ConnectionId, request: Request) -> Option<Action> {
        self.rules.saw(request.api);
        if let Some(connection) = self.connection(id) {
            connection.exchange.ask(request);
        }
        self.rules.take(request.api, Moment::Request)
    }

    fn judge_response(&mut self, id: ConnectionId, piece: &[u8]) -> Verdict {
        let Some(connection) = self.connection(id) else {
            return Verdict::Close;
        };
        let muted = connection.exchange.muted;
        let Some(response) = connection.exchange.answer(piece) else {
            return Verdict::Close;
        };
        if response.late {
            self.rules.withheld(response.api, response.error);
        }
        if muted {
            return Verdict::Drop;
        }
        match self.rules.take(response.api, Moment::Response) {
            Some(Action::SwallowResponse) => {
                self.rules.withheld(response.api, response.error);
                self.mute(id);
                Verdict::Drop
            }
            Some(Action::CutAfterRequest) => {
                self.rules.withheld(response.api, response.error);
                Verdict::Close
            }
            Some(Action::CutBeforeRequest | Action::HoldRequest(_) | Action::StrandRequest)
            | None => Verdict::Forward,
        }
    }

    /// Ends the client's side only.
    fn hang_up(&mut self, id: ConnectionId) {
        self.mute(id);
        if let Some(connection) = self.connection(id) {
            connection.hang_up();
        }
    }

    fn mute(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connection(id) {
            connection.exchange.muted = true;
        }
    }
}
