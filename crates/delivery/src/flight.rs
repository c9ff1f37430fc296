//! The windows that are in Kafka's hands: produced, acknowledged, or being committed.

use std::collections::VecDeque;

use pgoutput::{Lsn, PgTimestamp, Position};

use crate::{Exception, Marks, Progress};

/// Numbers the windows of one session, from 0, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowId(pub u64);

/// How far a window has got. None of these states is durable: after a crash the checkpoint tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Handed to a producer; ends when every record is acknowledged.
    Producing,
    /// Every record is acknowledged; ends when the windows before it are committed.
    Acknowledged,
    /// The commit has been asked for; ends when it is known to have happened.
    Committing,
}

#[derive(Debug)]
pub(crate) struct Window {
    pub id: WindowId,
    pub state: State,
    /// Where the stream stands once this window is durable.
    pub progress: Progress,
    pub contents: Contents,
}

/// What is in a window, as far as it matters once its records are handed out.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub oldest_commit: Option<PgTimestamp>,
    pub events: usize,
    /// The first event, and its id.
    pub first: Option<(Position, String)>,
    /// Topics that were refused, and have taken something once it is durable.
    pub proves: Vec<String>,
    /// What to write back once it is durable.
    pub marks: Option<Marks>,
    /// Everything that commits below was dealt with before it.
    pub floor: Lsn,
    /// To be recorded once it is durable (only beside).
    pub exceptions: Vec<Exception>,
}

/// Windows in the order in which they were made, which is the order in which they commit.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    windows: VecDeque<Window>,
    next: u64,
}

impl Flight {
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Whether the newest window still waits for acknowledgements.
    pub fn newest_is_producing(&self) -> bool {
        self.windows
            .back()
            .is_some_and(|w| w.state == State::Producing)
    }

    pub fn oldest_commit(&self) -> Option<PgTimestamp> {
        self.windows.iter().find_map(|w| w.contents.oldest_commit)
    }

    /// Events in Kafka's hands.
    pub fn events(&self) -> usize {
        self.windows.iter().map(|w| w.contents.events).sum()
    }

    /// The only window's first event.
    pub fn alone(&self) -> Option<(Position, String)> {
        let only = self.windows.front().filter(|_| self.windows.len() == 1);
        only.and_then(|window| window.contents.first.clone())
    }

    pub fn push(&mut self, progress: Progress, contents: Contents) -> WindowId {
        let id = WindowId(self.next);
        self.next += 1;
        self.windows.push_back(Window {
            id,
            state: State::Producing,
            progress,
            contents,
        });
        id
    }

    /// Every record of the window is acknowledged.
    pub fn acknowledge(&mut self, id: WindowId) {
        let window = self.windows.iter_mut().find(|w| w.id == id);
        let window = window.expect("only a window in flight is acknowledged");
        assert_eq!(
            window.state,
            State::Producing,
            "a window is acknowledged once"
        );
        window.state = State::Acknowledged;
    }

    /// The oldest window, if it is acknowledged and not yet being committed: its commit may start,
    /// for every window before it is known to be committed.
    pub fn start_commit(&mut self) -> Option<WindowId> {
        let oldest = self.windows.front_mut()?;
        if oldest.state != State::Acknowledged {
            return None;
        }
        oldest.state = State::Committing;
        Some(oldest.id)
    }

    /// The window is known to be committed.
    pub fn committed(&mut self, id: WindowId) -> Window {
        let oldest = self
            .windows
            .pop_front()
            .expect("only a window in flight is committed");
        assert_eq!(oldest.id, id, "windows commit in order");
        assert_eq!(
            oldest.state,
            State::Committing,
            "a window commits when it was asked to"
        );
        oldest
    }

    /// Without transactions: takes the oldest window if acknowledged, for it is durable then.
    pub fn take_acknowledged(&mut self) -> Option<Window> {
        if self.windows.front()?.state != State::Acknowledged {
            return None;
        }
        self.windows.pop_front()
    }
}
