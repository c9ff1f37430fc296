//! The replication slot.

use pgoutput::Lsn;

use super::ConnectionId;

#[derive(Debug)]
pub(super) struct Slot {
    /// Where it was made.
    pub created: Lsn,
    /// In memory.
    pub confirmed: Lsn,
    /// On disk: what a crash goes back to.
    persisted: Lsn,
    /// The one connection that streams.
    pub holder: Option<ConnectionId>,
    /// The server has removed WAL that it needed.
    pub is_lost: bool,
}

impl Slot {
    /// A new slot is written to disk at once.
    pub fn new(at: Lsn) -> Self {
        Self {
            created: at,
            confirmed: at,
            persisted: at,
            holder: None,
            is_lost: false,
        }
    }

    /// Feedback moves the slot forward only (`LogicalConfirmReceivedLocation` in `logical.c`).
    pub fn confirm(&mut self, from: ConnectionId, lsn: Lsn) {
        if self.holder == Some(from) {
            self.confirmed = self.confirmed.max(lsn);
        }
    }

    /// Somebody else moves it (`pg_replication_slot_advance`).
    pub fn advance(&mut self, lsn: Lsn) {
        self.confirmed = self.confirmed.max(lsn);
    }

    pub fn persist(&mut self) {
        self.persisted = self.confirmed;
    }

    pub fn restore(&mut self) {
        self.confirmed = self.persisted;
    }

    /// As it is in a copy of the disk that was made when the log ended at `end`.
    pub fn go_back(&mut self, end: Lsn) {
        self.fail_over(end);
        self.holder = None;
    }

    /// The standby's copy of it: older, and never beyond the standby's log.
    pub fn fail_over(&mut self, switch: Lsn) {
        self.persisted = self.persisted.min(switch);
        self.restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_goes_back_to_what_was_persisted() {
        let mut slot = Slot::new(Lsn::from(10));
        slot.holder = Some(ConnectionId(1));
        slot.confirm(ConnectionId(1), Lsn::from(20));
        slot.persist();
        slot.confirm(ConnectionId(1), Lsn::from(30));
        slot.confirm(ConnectionId(1), Lsn::from(25));
        assert_eq!(slot.confirmed, Lsn::from(30));
        slot.restore();
        assert_eq!(slot.confirmed, Lsn::from(20));
    }

    #[test]
    fn only_the_holder_moves_it() {
        let mut slot = Slot::new(Lsn::from(10));
        slot.confirm(ConnectionId(1), Lsn::from(20));
        assert_eq!(slot.confirmed, Lsn::from(10));
    }
}
