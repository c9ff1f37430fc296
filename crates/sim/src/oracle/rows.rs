//! What rows say of their events.

use delivery::WriteBack;

use super::Expectation;
use super::expectation::Expected;
use crate::Violation;
use crate::server::{RowState, Server};

/// Follows which rows have been told.
#[derive(Debug)]
pub(super) struct Told {
    mode: WriteBack,
    is_exact: bool,
    /// Everything before has been.
    first_untold: usize,
}

impl Told {
    pub fn new(mode: WriteBack, is_exact: bool) -> Self {
        Self {
            mode,
            is_exact,
            first_untold: 0,
        }
    }

    /// The log was replaced.
    pub fn forget_from(&mut self, rank: usize) {
        self.first_untold = self.first_untold.min(rank);
    }

    /// The first durable event whose row does not say so.
    pub fn first_untold<'e>(
        &mut self,
        expectation: &'e Expectation,
        server: &Server,
    ) -> Option<&'e Expected> {
        loop {
            let event = expectation.events().get(self.first_untold)?;
            if !self.is_told(event, server) {
                return Some(event);
            }
            self.first_untold += 1;
        }
    }

    fn is_told(&self, event: &Expected, server: &Server) -> bool {
        let id = event.id();
        let is_pending = server.row_state(&id) == Some(RowState::Pending);
        match self.mode {
            WriteBack::Off => true,
            WriteBack::All => !is_pending || server.has_forgotten(&id),
            // What is dead and was then published by a session that knew nothing of that says nothing.
            WriteBack::Failures if !self.is_exact && !event.is_dead() => true,
            WriteBack::Failures => {
                !is_pending || event.burials.is_empty() || server.has_forgotten(&id)
            }
        }
    }

    /// In the end each row says what has become of its event.
    pub fn judge(&self, expectation: &Expectation, server: &Server) -> Result<(), Violation> {
        for event in expectation.events() {
            let id = event.id();
            let Some(found) = server.row_state(&id) else {
                continue;
            };
            let is_ambiguous = !self.is_exact && !event.burials.is_empty();
            let expected = match self.mode {
                WriteBack::Off => RowState::Pending,
                WriteBack::All | WriteBack::Failures if event.is_dead() => RowState::Failed,
                WriteBack::Failures if event.burials.is_empty() => RowState::Pending,
                WriteBack::All | WriteBack::Failures => RowState::Sent,
            };
            // A state that was lost with its server may be missing, but not be another one.
            let is_older = match found {
                RowState::Pending => true,
                RowState::Failed => !event.burials.is_empty(),
                RowState::Sent => false,
            };
            let is_right = found == expected
                || server.has_forgotten(&id) && is_older
                || is_ambiguous && (found != RowState::Pending || self.mode != WriteBack::All);
            if !is_right {
                let position = event.position;
                return Err(Violation::RowWrong {
                    position,
                    found: format!("{found:?}"),
                    expected: format!("{expected:?}"),
                });
            }
        }
        Ok(())
    }
}
