//! Faults: which are possible, and what they do.

use crate::protocol::ongoing;
use crate::step::{confirm, streaming};
use crate::{
    Action, Budget, Delivery, Fault, Lsn, Message, Protocol, RELAYS, RelayId, Request, Rule,
    Session, Stage, State, Wal,
};

impl Protocol {
    /// What may go wrong, as far as the budget allows.
    pub(crate) fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let mut offer = |fault| actions.push(Action::Fault(fault));
        let left = state.left;
        for relay in (0..RELAYS).filter(|relay| state.relays[*relay].is_running()) {
            if left.crashes > 0 {
                offer(Fault::Crash(relay));
            }
            if left.disconnects > 0 && state.slot.holder == Some(relay) {
                offer(Fault::Disconnect(relay));
            }
            if left.unanswered > 0 {
                self.unanswered(state, relay, &mut offer);
            }
            let delivery = state.relays[relay].delivery();
            let news = |d: &Delivery| d.keepalive() > d.boundary.confirm;
            if left.keepalives > 0 && delivery.is_some_and(news) {
                offer(Fault::Keepalive(relay));
            }
        }
        if left.server_crashes > 0 {
            self.returns(state)
                .for_each(|lsn| offer(Fault::CrashServer(lsn)));
        }
        if left.expiries > 0 {
            ongoing(state).for_each(|id| offer(Fault::ExpireEarly(id)));
        }
        if left.duplicates > 0 {
            let waiting = state.network.iter().filter(|m| m.sender.is_some());
            waiting.for_each(|m| offer(Fault::Duplicate(*m)));
        }
    }

    /// Requests of a relay that may stay without an answer.
    fn unanswered(&self, state: &State, relay: RelayId, offer: &mut impl FnMut(Fault)) {
        for lane in self.next_ids(state, relay) {
            offer(Fault::LoseInit(relay, lane));
        }
        for window in state.relays[relay]
            .delivery()
            .iter()
            .flat_map(|d| &d.flight)
        {
            if window.stage == Stage::Committing {
                offer(Fault::GiveUp(relay, window.lane));
            }
        }
    }

    /// Where a crash may take the slot back to: anything since what is known to be on disk.
    fn returns(&self, state: &State) -> impl Iterator<Item = Lsn> + use<> {
        let (low, high) = (state.slot.persisted, state.slot.confirmed);
        let ends = (0..self.bounds.wal.transactions()).map(Wal::end_lsn);
        let between = ends.filter(move |lsn| low < *lsn && *lsn < high);
        let highest = (high > low).then_some(high);
        std::iter::once(low).chain(between).chain(highest)
    }

    pub(crate) fn fail(&self, state: &mut State, fault: Fault) {
        *price(&mut state.left, &fault) -= 1;
        match fault {
            Fault::Crash(relay) => state.end_session(relay),
            Fault::Disconnect(_) => state.slot.holder = None,
            Fault::CrashServer(lsn) => {
                state.slot.holder = None;
                state.slot.confirmed = lsn;
                state.slot.persisted = lsn;
            }
            Fault::GiveUp(relay, lane) => self.give_up(state, relay, lane),
            Fault::LoseInit(relay, lane) => {
                let coordinator = self.coordinator(relay, lane);
                state.send(Message {
                    coordinator,
                    request: Request::Init,
                    sender: None,
                });
            }
            Fault::ExpireEarly(id) => self.interrupt(state, id),
            Fault::Keepalive(relay) => self.keepalive(state, relay),
            Fault::Duplicate(message) => state.send(Message {
                sender: None,
                ..message
            }),
        }
    }

    /// The request stays under way, and nobody waits for its answer.
    fn give_up(&self, state: &mut State, relay: RelayId, lane: usize) {
        if self.keeps(Rule::RereadAfterUnknown) && self.keeps(Rule::UnknownIsNotSuccess) {
            return state.end_session(relay);
        }
        let id = self.coordinator(relay, lane);
        for message in state.network.iter_mut().filter(|m| m.coordinator == id) {
            message.sender = message.sender.filter(|sender| *sender != relay);
        }
        state.tidy();
        match self.keeps(Rule::UnknownIsNotSuccess) {
            false => self.landed(state, relay, lane),
            true => streaming(state, relay, |delivery| {
                if let Some(window) = delivery.window(lane) {
                    window.stage = Stage::Repeating;
                }
            }),
        }
    }

    fn keepalive(&self, state: &mut State, relay: RelayId) {
        let Session::Streaming(delivery) = &mut state.relays[relay].session else {
            return;
        };
        let lsn = delivery.keepalive();
        delivery.reach(lsn);
        if !self.keeps(Rule::ConfirmKeepaliveWhenRecorded) {
            confirm(state, relay, lsn);
        }
    }
}

/// What a fault is paid from.
fn price<'a>(left: &'a mut Budget, fault: &Fault) -> &'a mut u8 {
    match fault {
        Fault::Crash(_) => &mut left.crashes,
        Fault::Disconnect(_) => &mut left.disconnects,
        Fault::CrashServer(_) => &mut left.server_crashes,
        Fault::GiveUp(..) | Fault::LoseInit(..) => &mut left.unanswered,
        Fault::ExpireEarly(_) => &mut left.expiries,
        Fault::Keepalive(_) => &mut left.keepalives,
        Fault::Duplicate(_) => &mut left.duplicates,
    }
}
