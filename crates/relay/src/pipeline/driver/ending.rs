//! How a session ends: what has been taken in is made durable first, for a while.

use std::time::{Duration, Instant};

use delivery::Delivery;

use super::{Driver, HEARTBEAT};
use crate::failure::Failure;

impl Driver<'_> {
    /// Makes durable and confirms what has been taken in until that is `done`, for at most
    /// `patience`.
    pub(super) async fn drain(&mut self, patience: Duration, done: fn(&Delivery) -> bool) {
        self.delivery.handle_drain(Instant::now());
        self.write_back.hurry();
        let draining = async {
            self.carry_out();
            while !done(&self.delivery) {
                let reported = tokio::select! {
                    biased;
                    report = self.sink.report() => self.reported(report),
                    done = self.write_back.done() => {
                        self.written_back(done);
                        Ok(())
                    }
                    () = tokio::time::sleep(HEARTBEAT) => {
                        self.show_vitals();
                        Ok(())
                    }
                };
                if let Err(failure) = reported {
                    let (code, error) = (failure.code.name, failure.message);
                    let pipeline = self.context.pipeline.name.as_str();
                    tracing::warn!(
                        pipeline,
                        code,
                        error,
                        "not everything was published before the end"
                    );
                    return;
                }
                self.carry_out();
            }
        };
        if tokio::time::timeout(patience, draining).await.is_err() {
            let what = match self.delivery.is_published() {
                true => "not all states were written back",
                false => "not everything was published",
            };
            tracing::warn!("{what} before the end: the slot holds it");
        }
    }

    /// How long the stream may take to send the last confirmation.
    pub(super) fn courtesy(&self, ended: &Result<(), Failure>) -> Duration {
        match ended {
            // Behind a session that starts over for its rows, the next one begins where this one has confirmed.
            Err(failure)
                if matches!(failure.code.name, "postgres-shutdown" | "write-back-behind") =>
            {
                Duration::from_millis(500)
            }
            Ok(()) | Err(_) => Duration::ZERO,
        }
    }
}
