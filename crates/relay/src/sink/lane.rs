//! A thread that owns one producer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use delivery::WindowId;
use envelope::RecordBatch;
use tokio::sync::mpsc;

use super::Report;
use crate::failure::Failure;

/// What a lane has to do.
#[derive(Debug)]
pub enum Command {
    /// Produce a window, with the checkpoint if it belongs to the same transaction.
    Produce {
        /// The window.
        window: WindowId,
        /// Its records.
        batch: RecordBatch,
        /// The checkpoint record's value.
        checkpoint: Option<Vec<u8>>,
        /// Keys and values of the exceptions.
        exceptions: Exceptions,
    },
    /// Commit the window's transaction.
    Commit {
        /// The window.
        window: WindowId,
    },
    /// Write a checkpoint in a transaction of its own.
    Record {
        /// The checkpoint record's value.
        checkpoint: Vec<u8>,
        /// Keys and values of the exceptions.
        exceptions: Exceptions,
    },
}

/// Keys and values of exception records.
pub type Exceptions = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// The session's end of a lane.
pub struct Lane {
    commands: std_mpsc::Sender<Command>,
}

/// The thread's end of a lane.
pub struct LaneEnd {
    commands: std_mpsc::Receiver<Command>,
    reports: mpsc::UnboundedSender<Report>,
    abandoned: Arc<AtomicBool>,
}

/// What [`LaneEnd::next`] returns.
pub enum Next {
    /// Work.
    Command(Command),
    /// None for a while: a chance to serve the producer's events.
    Idle,
    /// The session is over.
    Over,
}

impl Lane {
    /// Starts the thread. It ends when the session drops the lane.
    pub fn spawn(
        name: &str,
        reports: &mpsc::UnboundedSender<Report>,
        abandoned: &Arc<AtomicBool>,
        run: impl FnOnce(LaneEnd) + Send + 'static,
    ) -> Self {
        let (commands, receiver) = std_mpsc::channel();
        let end = LaneEnd {
            commands: receiver,
            reports: reports.clone(),
            abandoned: Arc::clone(abandoned),
        };
        let in_panic = reports.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Its window would be waited for in vain.
                if catch_unwind(AssertUnwindSafe(|| run(end))).is_err() {
                    let failure = Failure::new("internal", "a lane to the sink has panicked");
                    let _ = in_panic.send(Report::Failed(failure));
                }
            });
        if let Err(e) = thread {
            let failure = Failure::caused("internal", "starting a thread", &e);
            let _ = reports.send(Report::Failed(failure));
        }
        Self { commands }
    }

    /// Queues a command. A lane that has ended has reported why.
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

impl LaneEnd {
    /// The next command, waiting up to `patience`.
    pub fn next(&mut self, patience: Duration) -> Next {
        match self.commands.recv_timeout(patience) {
            Ok(command) => Next::Command(command),
            Err(std_mpsc::RecvTimeoutError::Timeout) => Next::Idle,
            Err(std_mpsc::RecvTimeoutError::Disconnected) => Next::Over,
        }
    }

    /// The next command if one is queued.
    pub fn try_next(&mut self) -> Next {
        self.next(Duration::ZERO)
    }

    /// Tells the session.
    pub fn report(&self, report: Report) {
        let _ = self.reports.send(report);
    }

    /// The session has gone: stop waiting for anything.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}
