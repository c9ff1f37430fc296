//! Ends of a session.

use std::time::Duration;

use delivery::{Delivery, Lessons};

use super::{Driver, Failure, SHUTDOWN_COURTESY};
use crate::Violation;
use crate::task::pause;

impl Driver<'_> {
    /// Ends the stream; after a drain the last confirmed LSN is sent first.
    pub async fn close(self, ended: &Result<(), Failure>) -> Lessons {
        let patience = match ended {
            Ok(()) => SHUTDOWN_COURTESY,
            Err(_) => Duration::ZERO,
        };
        let until = self.context.elapsed() + patience;
        let connection = self.session.connection;
        let is_out = || {
            self.context
                .with(|world| world.server.feedback_is_out(connection))
        };
        while is_out() && self.context.elapsed() < until {
            pause().await;
        }
        self.delivery.into_lessons()
    }

    /// Makes durable and confirms what has been taken in until that is `done`, for at most
    /// `patience`.
    pub(super) async fn drain(&mut self, patience: Duration, done: fn(&Delivery) -> bool) {
        let until = self.context.elapsed() + patience;
        self.delivery.handle_drain(self.context.now());
        self.carry_out();
        while !done(&self.delivery) {
            let waits = self.delivery.poll_timeout().is_some() || !self.write_back.is_idle();
            if self.sink.is_idle() && !waits {
                return self
                    .context
                    .with(|world| world.violate(Violation::DrainStuck));
            }
            pause().await;
            if self.context.elapsed() > until {
                return;
            }
            if let Some(done) = self.write_back.done() {
                self.written_back(done);
            }
            if let Some(report) = self.sink.reports.next()
                && self.reported(report).is_err()
            {
                return;
            }
            self.carry_out();
        }
        self.context.count("drained");
    }
}
