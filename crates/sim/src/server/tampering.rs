//! What others do to the slot and the server behind the relay's back.

use pgoutput::Lsn;

use super::slot::Slot;
use super::{Server, State};
use crate::Dice;

impl Server {
    /// The server removes WAL that the slot needs (`max_slot_wal_keep_size`) and ends its stream.
    pub fn lose_slot(&mut self, dice: &mut Dice) -> bool {
        let Some(slot) = &mut self.slot else {
            return false;
        };
        slot.is_lost = true;
        if let Some(holder) = slot.holder {
            self.disconnect(holder, dice);
        }
        true
    }

    /// Somebody drops the slot while nobody streams.
    pub fn drop_slot(&mut self) -> bool {
        if self.slot.is_none() || self.is_held() {
            return false;
        }
        self.slot = None;
        true
    }

    /// Somebody drops the slot and makes another of that name, at the present.
    pub fn recreate_slot(&mut self) -> bool {
        if self.state != State::Up || !self.writer.is_quiet() || !self.drop_slot() {
            return false;
        }
        self.history.append(60);
        self.slot = Some(Slot::new(self.history.end()));
        self.rows.forget_before(self.history.end());
        true
    }

    /// Somebody moves the slot forward while nobody streams.
    pub fn advance_slot(&mut self, dice: &mut Dice) -> bool {
        if self.state != State::Up || self.is_held() {
            return false;
        }
        let Some(slot) = &mut self.slot else {
            return false;
        };
        let beyond = Lsn::from(slot.confirmed.as_u64() + 1);
        let Some(to) = dice.pick(&self.history.ends_from(beyond)) else {
            return false;
        };
        slot.advance(to);
        self.rows.forget_before(to);
        true
    }

    /// The server is put back to an older copy of its disk, and writes on from there: LSNs are
    /// used again on the same timeline.
    pub fn restore(&mut self, dice: &mut Dice) -> bool {
        let Some(created) = self.slot.as_ref().map(|slot| slot.created) else {
            return false;
        };
        let branched = self.branches.iter().copied().max();
        let least = created.max(branched.unwrap_or(created));
        let Some(at) = dice.pick(&self.history.ends_from(least)) else {
            return false;
        };
        self.crash(dice);
        self.history.branch_off(at);
        self.rows.branch_off(at, &self.history, true);
        self.received = self.received.min(at);
        self.branches.push(at);
        if let Some(slot) = &mut self.slot {
            slot.go_back(at);
        }
        true
    }
}
