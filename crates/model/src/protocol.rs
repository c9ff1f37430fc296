//! Which steps are possible.

use crate::delivery::Limits;
use crate::{
    Action, Bounds, CoordinatorId, Epoch, LANES, Lane, Message, Phase, RELAYS, RelayId, Rule,
    Session, Stage, State,
};

/// The state machine that is explored.
#[derive(Debug, Clone)]
pub struct Protocol {
    /// How much.
    pub bounds: Bounds,
    /// The rule that the relays do not keep, if any.
    pub broken: Option<Rule>,
}

impl Protocol {
    /// The protocol as it is meant to be.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            broken: None,
        }
    }

    /// The protocol without one of its rules.
    pub fn without(rule: Rule, bounds: Bounds) -> Self {
        Self {
            bounds,
            broken: Some(rule),
        }
    }

    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    pub(crate) fn limits(&self, relay: RelayId) -> Limits {
        Limits {
            ring: self.bounds.rings[relay],
            window_rows: self.bounds.window_rows,
            waits_for_acknowledgement: self.keeps(Rule::ProduceAfterAcknowledged),
            checkpoint_inside: self.keeps(Rule::CheckpointInTransaction),
        }
    }

    /// Relays share their transactional ids: the same lane of both is one coordinator.
    pub(crate) fn coordinator(&self, relay: RelayId, lane: Lane) -> CoordinatorId {
        match self.keeps(Rule::Fence) {
            true => lane,
            false => relay * LANES + lane,
        }
    }

    /// What happens by itself, sooner or later, if nothing else does.
    pub(crate) fn steps(&self, state: &State, actions: &mut Vec<Action>) {
        for relay in 0..RELAYS {
            self.relay_steps(state, relay, actions);
        }
        let mut messages = state.network.clone();
        messages.dedup();
        // A settling coordinator answers that it is busy, and is asked again.
        let arrives = |m: &Message| m.is_refused() || !state.broker.is_settling(m.coordinator);
        actions.extend(messages.into_iter().filter(arrives).map(Action::Deliver));
        let settling = (0..RELAYS * LANES).filter(|id| state.broker.is_settling(*id));
        actions.extend(settling.map(Action::Settle));
        if actions.is_empty() {
            actions.extend(ongoing(state).map(Action::Expire));
        }
    }

    fn relay_steps(&self, state: &State, relay: RelayId, actions: &mut Vec<Action>) {
        let is_running = state.relays[relay].is_running();
        if is_running && state.slot.holder != Some(relay) {
            actions.push(Action::NoticeLoss(relay));
        }
        match &state.relays[relay].session {
            Session::Down if state.slot.holder.is_none() => actions.push(Action::Acquire(relay)),
            Session::Down | Session::Halted => {}
            Session::Held { .. } => actions.push(Action::ReadSlot(relay)),
            Session::Fencing { read, .. } => {
                let early = !self.keeps(Rule::FenceBeforeReading) && read.is_none();
                match early {
                    true => self.reading(state, relay, actions),
                    false => self.fencing(state, relay, actions),
                }
            }
            Session::Streaming(_) => self.streaming(state, relay, actions),
        }
    }

    fn fencing(&self, state: &State, relay: RelayId, actions: &mut Vec<Action>) {
        let mut next = self.next_ids(state, relay).peekable();
        if next.peek().is_none() {
            self.reading(state, relay, actions);
        }
        actions.extend(next.filter_map(|lane| self.acquisition(state, relay, lane)));
    }

    /// The transactional ids that the relay is asking for.
    pub(crate) fn next_ids(
        &self,
        state: &State,
        relay: RelayId,
    ) -> impl Iterator<Item = Lane> + use<> {
        let at_once = match self.keeps(Rule::FenceInOrder) {
            true => 1,
            false => LANES,
        };
        state.relays[relay].unfenced().take(at_once)
    }

    /// What InitProducerId does: only a transactional id without a transaction is given away.
    fn acquisition(&self, state: &State, relay: RelayId, lane: Lane) -> Option<Action> {
        match state.broker.coordinators[self.coordinator(relay, lane)].phase {
            Phase::Empty => Some(Action::Fence(relay, lane)),
            // Else the two could go on for ever aborting each other's transactions.
            Phase::Ongoing if state.relays[relay].epochs[lane] == Epoch::Waiting => None,
            Phase::Ongoing => Some(Action::Interrupt(relay, lane)),
            Phase::Committing | Phase::Aborting => None,
        }
    }

    fn reading(&self, state: &State, relay: RelayId, actions: &mut Vec<Action>) {
        if state.broker.is_stable() || !self.keeps(Rule::ReadCommitted) {
            actions.push(Action::ReadCheckpoint(relay));
        }
    }

    fn streaming(&self, state: &State, relay: RelayId, actions: &mut Vec<Action>) {
        let Some(delivery) = state.relays[relay].delivery() else {
            return;
        };
        let limits = self.limits(relay);
        if delivery.wants_input(&self.bounds.wal, limits) {
            actions.push(Action::Receive(relay));
        }
        if delivery.can_close(limits) {
            actions.push(Action::Close(relay));
        }
        if delivery.can_record() {
            actions.push(Action::Record(relay));
        }
        for window in &delivery.flight {
            self.window_steps(state, relay, window.lane, window.stage, actions);
        }
    }

    fn window_steps(
        &self,
        state: &State,
        relay: RelayId,
        lane: Lane,
        stage: Stage,
        actions: &mut Vec<Action>,
    ) {
        let fenced = state.relays[relay].epochs[lane] == Epoch::Fenced;
        let blocked = state.broker.is_settling(self.coordinator(relay, lane)) && !fenced;
        match stage {
            Stage::Producing { events, checkpoint } if !blocked => {
                if events {
                    actions.push(Action::ProduceEvents(relay, lane));
                }
                if checkpoint && (!events || self.bounds.budget.duplicates > 0) {
                    actions.push(Action::ProduceCheckpoint(relay, lane));
                }
            }
            Stage::Producing { .. } | Stage::Acknowledged | Stage::Committing => {}
            Stage::Answered { .. } => actions.push(Action::HearAnswer(relay, lane)),
            Stage::Recording => actions.push(Action::ProduceCheckpoint(relay, lane)),
            Stage::Repeating => {
                let acquired = self.acquisition(state, relay, lane);
                actions.extend(acquired.map(|action| match action {
                    Action::Fence(relay, lane) => Action::Reproduce(relay, lane),
                    other => other,
                }));
            }
        }
    }
}

/// The transactional ids with an open transaction.
pub(crate) fn ongoing(state: &State) -> impl Iterator<Item = CoordinatorId> {
    let coordinators = state.broker.coordinators.iter().enumerate();
    coordinators
        .filter(|(_, c)| c.phase == Phase::Ongoing)
        .map(|(id, _)| id)
}
