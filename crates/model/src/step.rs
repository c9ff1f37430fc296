//! What a step changes.

use crate::protocol::ongoing;
use crate::relay::{Epoch, Relay};
use crate::{
    Action, CoordinatorId, Delivery, LANES, Lane, Lsn, Message, Phase, Protocol, RelayId, Request,
    Rule, Session, Stage, State,
};

impl Protocol {
    pub(crate) fn apply(&self, state: &mut State, action: Action) {
        match action {
            Action::Acquire(relay) => acquire(state, relay),
            Action::ReadSlot(relay) => self.read_slot(state, relay),
            Action::Fence(relay, lane) => self.fence(state, relay, lane),
            Action::Interrupt(relay, lane) => {
                self.interrupt(state, self.coordinator(relay, lane));
                if state.slot.holder != Some(relay) {
                    state.relays[relay].epochs[lane] = Epoch::Waiting;
                }
            }
            Action::ReadCheckpoint(relay) => self.read_checkpoint(state, relay),
            Action::Receive(relay) => {
                let (wal, limits) = (&self.bounds.wal, self.limits(relay));
                streaming(state, relay, |d| d.receive(wal, limits));
            }
            Action::Close(relay) => {
                let (wal, limits) = (&self.bounds.wal, self.limits(relay));
                streaming(state, relay, |d| {
                    d.close(wal, limits);
                    d.advance(wal, limits);
                });
            }
            Action::Record(relay) => {
                let limits = self.limits(relay);
                streaming(state, relay, |d| d.record(limits));
                self.start_commits(state, relay);
            }
            Action::ProduceEvents(relay, lane) => self.produce_events(state, relay, lane),
            Action::ProduceCheckpoint(relay, lane) => self.produce_checkpoint(state, relay, lane),
            Action::HearAnswer(relay, lane) => self.hear_answer(state, relay, lane),
            Action::NoticeLoss(relay) => state.end_session(relay),
            Action::Deliver(message) => self.deliver(state, message),
            Action::Settle(id) => self.settle(state, id),
            Action::Expire(id) => self.interrupt(state, id),
            Action::Reproduce(relay, lane) => self.reproduce(state, relay, lane),
            Action::Fault(fault) => self.fail(state, fault),
        }
    }

    fn read_slot(&self, state: &mut State, relay: RelayId) {
        if let Session::Held { from } = state.relays[relay].session {
            state.relays[relay].session = Session::Fencing {
                from,
                seen: state.slot.confirmed,
                fence_to: self.bounds.rings[relay],
                read: None,
            };
        }
    }

    /// A newer producer gets the transactional id.
    fn fence(&self, state: &mut State, relay: RelayId, lane: Lane) {
        self.outdate(state, self.coordinator(relay, lane));
        state.relays[relay].epochs[lane] = Epoch::Current;
    }

    /// Every producer and request with the id's epoch so far is outdated.
    fn outdate(&self, state: &mut State, id: CoordinatorId) {
        for (relay, lane) in State::lanes() {
            let epoch = &mut state.relays[relay].epochs[lane];
            if self.coordinator(relay, lane) == id && *epoch == Epoch::Current {
                *epoch = Epoch::Fenced;
            }
        }
        for message in state.network.iter_mut().filter(|m| m.coordinator == id) {
            if let Request::Commit { fenced } = &mut message.request {
                *fenced = true;
            }
        }
        state.tidy();
    }

    /// Aborts an open transaction, on behalf of a newer producer or because of its age.
    pub(crate) fn interrupt(&self, state: &mut State, id: CoordinatorId) {
        self.outdate(state, id);
        state.broker.decide(id, Phase::Aborting);
    }

    fn read_checkpoint(&self, state: &mut State, relay: RelayId) {
        let record = match self.keeps(Rule::ReadCommitted) {
            true => state.broker.committed_checkpoint(),
            false => state.broker.last_checkpoint(),
        };
        let current = &mut state.relays[relay];
        let Session::Fencing {
            from,
            seen,
            fence_to,
            read,
        } = &mut current.session
        else {
            return;
        };
        if record.ring > *fence_to && self.keeps(Rule::FenceRecordedRing) {
            *fence_to = record.ring;
            return;
        }
        let (from, seen, resume) = (*from, *seen, read.unwrap_or(record.progress));
        if current.unfenced().next().is_some() {
            if let Session::Fencing { read, .. } = &mut current.session {
                *read = Some(resume);
            }
            return;
        }
        if seen > resume.confirm {
            state.end_session(relay);
            state.relays[relay].session = Session::Halted;
            return;
        }
        for lane in usize::from(self.bounds.rings[relay])..LANES {
            current.epochs[lane] = Epoch::None;
        }
        let mut position = resume;
        if !self.keeps(Rule::SkipByCheckpoint) {
            position.position = None;
            position.confirm = from;
        }
        let delivery = Delivery::new(&self.bounds.wal, from, position);
        current.session = Session::Streaming(delivery);
        confirm(state, relay, resume.confirm);
    }

    fn produce_events(&self, state: &mut State, relay: RelayId, lane: Lane) {
        let id = self.coordinator(relay, lane);
        if state.relays[relay].epochs[lane] != Epoch::Current {
            return state.end_session(relay);
        }
        let mut rows = 0..0;
        streaming(state, relay, |delivery| {
            if let Some(window) = delivery.window(lane) {
                rows = window.first..window.first + window.rows;
                window.stage = match window.stage {
                    Stage::Producing {
                        checkpoint: true, ..
                    } => Stage::Producing {
                        events: false,
                        checkpoint: true,
                    },
                    _ => Stage::Acknowledged,
                };
            }
        });
        state.broker.append_events(id, rows);
        self.start_commits(state, relay);
    }

    fn produce_checkpoint(&self, state: &mut State, relay: RelayId, lane: Lane) {
        let (id, ring) = (self.coordinator(relay, lane), self.bounds.rings[relay]);
        let mut progress = None;
        streaming(state, relay, |delivery| {
            progress = delivery.window(lane).map(|w| (w.progress, w.stage));
        });
        let Some((progress, stage)) = progress else {
            return;
        };
        if stage == Stage::Recording {
            state.broker.append_plain_checkpoint(progress, ring);
            return self.landed(state, relay, lane);
        }
        if state.relays[relay].epochs[lane] != Epoch::Current {
            return state.end_session(relay);
        }
        streaming(state, relay, |delivery| {
            if let Some(window) = delivery.window(lane) {
                window.stage = match window.stage {
                    Stage::Producing { events: true, .. } => Stage::Producing {
                        events: true,
                        checkpoint: false,
                    },
                    _ => Stage::Acknowledged,
                };
            }
        });
        state.broker.append_checkpoint(id, progress, ring);
        self.start_commits(state, relay);
    }

    /// Asks for the commits whose turn it is, and hands out what became possible.
    fn start_commits(&self, state: &mut State, relay: RelayId) {
        let (wal, limits) = (&self.bounds.wal, self.limits(relay));
        let in_turn = self.keeps(Rule::CommitInTurn);
        let mut started = Vec::new();
        streaming(state, relay, |delivery| {
            let reach = if in_turn { 1 } else { delivery.flight.len() };
            for window in delivery.flight.iter_mut().take(reach) {
                if window.stage == Stage::Acknowledged {
                    window.stage = Stage::Committing;
                    started.push((window.lane, window.progress.confirm));
                }
            }
            delivery.advance(wal, limits);
        });
        for (lane, reached) in started {
            let fenced = state.relays[relay].epochs[lane] != Epoch::Current;
            state.send(Message {
                coordinator: self.coordinator(relay, lane),
                request: Request::Commit { fenced },
                sender: Some(relay),
            });
            if !self.keeps(Rule::ConfirmAfterCommit) {
                confirm(state, relay, reached);
            }
        }
    }

    fn hear_answer(&self, state: &mut State, relay: RelayId, lane: Lane) {
        let inside = self.keeps(Rule::CheckpointInTransaction);
        let mut committed = false;
        streaming(state, relay, |delivery| {
            if let Some(window) = delivery.window(lane) {
                committed = window.stage == Stage::Answered { committed: true };
                window.stage = match inside {
                    true => window.stage,
                    false => Stage::Recording,
                };
            }
        });
        match (committed, inside) {
            (false, _) => state.end_session(relay),
            (true, true) => self.landed(state, relay, lane),
            (true, false) => {}
        }
    }

    /// A window and its checkpoint are known to be committed.
    pub(crate) fn landed(&self, state: &mut State, relay: RelayId, lane: Lane) {
        let mut reached = None;
        streaming(state, relay, |delivery| {
            reached = delivery.land(lane).map(|w| w.progress.confirm);
        });
        if let Some(lsn) = reached {
            confirm(state, relay, lsn);
        }
        self.start_commits(state, relay);
    }

    fn reproduce(&self, state: &mut State, relay: RelayId, lane: Lane) {
        self.fence(state, relay, lane);
        let limits = self.limits(relay);
        streaming(state, relay, |delivery| {
            if let Some(window) = delivery.window(lane) {
                window.stage = Delivery::begin(window.rows, limits);
            }
        });
    }

    fn deliver(&self, state: &mut State, message: Message) {
        state.take(message);
        let id = message.coordinator;
        let is_ongoing = ongoing(state).any(|open| open == id);
        let committed = match message.request {
            Request::Init if is_ongoing => return self.interrupt(state, id),
            Request::Init => return self.outdate(state, id),
            Request::Commit { fenced } => !fenced,
        };
        if committed && is_ongoing {
            state.broker.decide(id, Phase::Committing);
        }
        if let Some(relay) = message.sender {
            let lane = id % LANES;
            streaming(state, relay, |delivery| {
                if let Some(window) = delivery.window(lane) {
                    window.stage = Stage::Answered { committed };
                }
            });
        }
    }

    fn settle(&self, state: &mut State, id: CoordinatorId) {
        state.broker.settle(id);
        if self.keeps(Rule::ReadCommitted) {
            state.broker.forget_aborted();
        }
    }
}

fn acquire(state: &mut State, relay: RelayId) {
    let from = state.slot.confirmed;
    state.slot.holder = Some(relay);
    state.relays[relay] = Relay {
        session: Session::Held { from },
        ..Relay::DOWN
    };
}

/// Feedback moves the slot only from the connection that holds it, and only forward.
pub(crate) fn confirm(state: &mut State, relay: RelayId, lsn: Lsn) {
    if state.slot.holder == Some(relay) {
        state.slot.confirmed = state.slot.confirmed.max(lsn);
    }
}

pub(crate) fn streaming(state: &mut State, relay: RelayId, change: impl FnOnce(&mut Delivery)) {
    if let Session::Streaming(delivery) = &mut state.relays[relay].session {
        change(delivery);
    }
}
