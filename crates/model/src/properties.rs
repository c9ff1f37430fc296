//! What has to hold in every state, and what has to be reachable.

use stateright::{Model, Property};

use crate::{
    Action, Coordinator, Message, Phase, Protocol, RELAYS, Request, Session, Stage, State, Wal,
};

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.bounds.rings[0], self.bounds.budget)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.steps(state, actions);
        self.faults(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.apply(&mut next, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = always();
        properties.extend(self.sometimes());
        properties
    }
}

fn always() -> Vec<Property<Protocol>> {
    vec![
        Property::always("each event once", |_, state| each_event_once(state)),
        Property::always("order is commit order", |_, state| in_order(state)),
        Property::always("confirmed is durable", confirmed_is_durable),
        Property::always("slot is not ahead of the checkpoint", |_, state: &State| {
            state.slot.confirmed <= state.broker.durable_checkpoint().confirm
        }),
        Property::always("checkpoint covers what is committed", checkpoint_is_true),
        Property::always("no false alarm", |_, state: &State| {
            state.relays.iter().all(|r| r.session != Session::Halted)
        }),
        Property::always("ends with everything published and confirmed", progress),
    ]
}

impl Protocol {
    /// What has to be reachable, or the exploration would prove nothing.
    fn sometimes(&self) -> Vec<Property<Self>> {
        let budget = self.bounds.budget;
        let mut properties = vec![
            Property::sometimes("everything is published", |model: &Self, state| {
                published(state) == model.bounds.wal.total_rows()
            }),
            Property::sometimes("a transaction is published in part", |_, state: &State| {
                let position = state.broker.durable_checkpoint().position;
                position.is_some_and(|p| !p.complete)
            }),
        ];
        let mut when = |possible: bool, name, condition: fn(&Self, &State) -> bool| {
            if possible {
                properties.push(Property::sometimes(name, condition));
            }
        };
        when(
            budget.crashes > 0,
            "a transaction is aborted",
            |_, state| {
                let aborting = |c: &Coordinator| c.phase == Phase::Aborting;
                state.broker.coordinators.iter().any(aborting)
            },
        );
        when(
            budget.disconnects > 0,
            "the slot is taken over",
            |_, state| is_taken_over(state),
        );
        when(
            budget.disconnects > 0,
            "a commit arrives after fencing",
            |_, state: &State| state.network.iter().any(Message::is_refused),
        );
        when(
            budget.unanswered > 0,
            "a commit that nobody waits for succeeds",
            |_, state: &State| state.network.iter().any(is_orphaned_commit),
        );
        when(
            self.bounds.rings.contains(&2),
            "a window is produced while another is committed",
            |_, state| has_two_windows(state),
        );
        properties
    }
}

/// One relay has taken over while the other still believes that it streams.
fn is_taken_over(state: &State) -> bool {
    (0..RELAYS).any(|relay| {
        let streams = |r: usize| matches!(state.relays[r].session, Session::Streaming(_));
        state.slot.holder == Some(relay) && streams(relay) && streams(1 - relay)
    })
}

/// A commit is about to succeed that nobody waits for.
fn is_orphaned_commit(message: &Message) -> bool {
    message.sender.is_none() && message.request == Request::Commit { fenced: false }
}

/// A window is produced while the one before it is being committed.
fn has_two_windows(state: &State) -> bool {
    let streams = state.relays.iter().filter_map(|r| r.delivery());
    let mut flights = streams.map(|d| d.flight.as_slice());
    flights.any(|flight| match flight {
        [older, newer] => {
            older.stage == Stage::Committing && matches!(newer.stage, Stage::Producing { .. })
        }
        _ => false,
    })
}

fn published(state: &State) -> u8 {
    state.broker.durable_rows().count() as u8
}

fn each_event_once(state: &State) -> bool {
    let mut seen = 0_u64;
    state.broker.durable_rows().all(|row| {
        let bit = 1 << row;
        let new = seen & bit == 0;
        seen |= bit;
        new
    })
}

fn in_order(state: &State) -> bool {
    state.broker.durable_rows().is_sorted()
}

fn confirmed_is_durable(model: &Protocol, state: &State) -> bool {
    let passed = model.bounds.wal.first_sent(state.slot.confirmed);
    holds_all_below(state, model.bounds.wal.first_row(passed))
}

/// Exactly what the newest committed checkpoint covers is committed.
fn checkpoint_is_true(model: &Protocol, state: &State) -> bool {
    let wal: &Wal = &model.bounds.wal;
    let progress = state.broker.durable_checkpoint();
    let covered = match progress.position {
        None => wal.first_row(wal.first_sent(progress.confirm)),
        Some(p) => wal.first_row(p.transaction) + p.index,
    };
    published(state) == covered && holds_all_below(state, covered)
}

fn holds_all_below(state: &State, row: u8) -> bool {
    (0..row).all(|wanted| state.broker.durable_rows().any(|row| row == wanted))
}

/// Where nothing is left to happen, nothing is left to do.
fn progress(model: &Protocol, state: &State) -> bool {
    let wal = &model.bounds.wal;
    let done = published(state) == wal.total_rows() && state.slot.confirmed >= wal.end();
    if done {
        return true;
    }
    let mut steps = Vec::new();
    model.steps(state, &mut steps);
    !steps.is_empty()
}
