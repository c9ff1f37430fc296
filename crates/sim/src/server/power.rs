//! The server's ends and beginnings: crash, promotion of a standby, shutdown, start.

use std::time::Duration;

use delivery::TimelineSwitch;

use super::connection::Gone;
use super::{Server, State};
use crate::Dice;
use crate::world::ProcessId;

/// A shutdown that waits is cut short once in so many steps.
const PATIENCE: u64 = 2_000;

impl Server {
    /// All backends crash. The slot comes back as last written to disk.
    pub fn crash(&mut self, dice: &mut Dice) {
        self.writer.crash(&mut self.history);
        self.end_all(Gone::Lost, dice);
        self.rows.crash();
        if let Some(slot) = &mut self.slot {
            slot.restore();
        }
        self.state = State::Down;
    }

    /// The server dies, and a standby that lacks the end of its log is promoted: the LSNs beyond
    /// are used again. Not after a restore: two false histories can't be told apart.
    pub fn promote(&mut self, dice: &mut Dice) -> bool {
        if self.is_restored() {
            return false;
        }
        let Some(created) = self.slot.as_ref().map(|slot| slot.created) else {
            return false;
        };
        let branched = self.branches.iter().copied().max();
        let least = created.max(branched.unwrap_or(created));
        let least = match self.is_synchronised {
            true => least.max(self.received),
            false => least,
        };
        let Some(ends_at) = dice.pick(&self.history.ends_from(least)) else {
            return false;
        };
        let timeline = self.timeline();
        self.crash(dice);
        self.history.branch_off(ends_at);
        let forgets = !self.is_synchronised;
        self.rows.branch_off(ends_at, &self.history, forgets);
        self.received = self.received.min(ends_at);
        self.switches.push(TimelineSwitch { timeline, ends_at });
        self.branches.push(ends_at);
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
        self.held_up = Duration::ZERO;
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

    /// Time passes: in a shutdown, for a client that streams on although it could act.
    pub fn pass(&mut self, time: Duration, can_act: impl Fn(ProcessId) -> bool) {
        let holder = self.slot.as_ref().and_then(|slot| slot.holder);
        let connection = holder.and_then(|id| self.connections.get(&id));
        let waits = connection.is_some_and(|c| c.is_alive() && can_act(c.owner));
        if self.state == State::Stopping && waits {
            self.held_up += time;
        } else {
            self.held_up = Duration::ZERO;
        }
    }

    pub(super) fn end_all(&mut self, why: Gone, dice: &mut Dice) {
        for connection in self.connections.values_mut() {
            connection.close(why, dice);
        }
        if let Some(slot) = &mut self.slot {
            slot.holder = None;
        }
    }

    /// A fast shutdown ends once the walsender has nothing to wait for; or patience ends.
    pub(super) fn go_down(&mut self, dice: &mut Dice) {
        let end = self.history.end();
        let slot = self.slot.as_mut();
        let waits = slot.is_some_and(|slot| slot.holder.is_some() && slot.confirmed < end);
        if !waits {
            if let Some(slot) = &mut self.slot {
                slot.persist();
            }
            self.end_all(Gone::ShuttingDown, dice);
            self.state = State::Down;
        } else if dice.one_in(PATIENCE) {
            self.crash(dice);
        }
    }
}
