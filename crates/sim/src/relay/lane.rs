//! The ends of a producer's thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use delivery::{Answer, RefusedEvent, WindowId};
use envelope::RecordBatch;

use super::{Context, Failure};
use crate::broker::{Message, Refusal};
use crate::world::{Life, Lifeline};

/// What a lane has to do.
pub(super) enum Command {
    Produce {
        window: WindowId,
        batch: RecordBatch,
        checkpoint: Option<Vec<u8>>,
        exceptions: Vec<Message>,
    },
    Commit {
        window: WindowId,
    },
    Record {
        checkpoint: Vec<u8>,
        exceptions: Vec<Message>,
    },
}

/// What a lane has done.
pub(super) enum Report {
    Acknowledged {
        window: WindowId,
        batch: RecordBatch,
    },
    Committed {
        window: WindowId,
    },
    Recorded,
    Failed(Failure),
    /// A window was refused for what is in it.
    Refused(delivery::Refusal),
    Answered {
        topic: String,
        answer: Answer,
    },
    /// Kafka does not answer, and the client goes on trying.
    Trouble,
}

impl Report {
    /// A refusal that no later try of the client can change.
    pub fn refused(refusal: Refusal, events: Vec<RefusedEvent>, context: &Context) -> Self {
        Failure::refused(refusal, events, context).into()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acknowledged { window, .. } => write!(f, "w{} acknowledged", window.0),
            Self::Committed { window } => write!(f, "w{} committed", window.0),
            Self::Recorded => f.write_str("recorded"),
            Self::Refused(refusal) => write!(f, "{refusal:?}"),
            Self::Answered { topic, answer } => write!(f, "{topic}: {answer:?}"),
            Self::Failed(failure) => write!(f, "{failure:?}"),
            Self::Trouble => f.write_str("trouble"),
        }
    }
}

/// Reports of all lanes of a session, in the order in which they came.
#[derive(Clone, Default)]
pub(super) struct Reports(Rc<RefCell<VecDeque<Report>>>);

impl Reports {
    pub fn push(&self, report: Report) {
        self.0.borrow_mut().push_back(report);
    }

    pub fn next(&self) -> Option<Report> {
        self.0.borrow_mut().pop_front()
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    /// A command is being carried out.
    busy: bool,
}

/// The session's end of a lane.
pub(super) struct Lane {
    queue: Rc<RefCell<Queue>>,
    lifeline: Rc<Lifeline>,
}

/// The thread's end of a lane.
pub(super) struct LaneEnd {
    queue: Rc<RefCell<Queue>>,
    lifeline: Rc<Lifeline>,
    reports: Reports,
}

impl Lane {
    /// Starts the thread.
    pub fn spawn<F>(context: &Context, reports: &Reports, run: impl FnOnce(LaneEnd) -> F) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let (queue, lifeline) = (Rc::<RefCell<Queue>>::default(), Lifeline::new());
        let end = LaneEnd {
            queue: Rc::clone(&queue),
            lifeline: Rc::clone(&lifeline),
            reports: reports.clone(),
        };
        context.spawn(Some(Rc::clone(&lifeline)), Box::pin(run(end)));
        Self { queue, lifeline }
    }

    pub fn send(&self, command: Command) {
        self.queue.borrow_mut().commands.push_back(command);
    }

    pub fn is_idle(&self) -> bool {
        let queue = self.queue.borrow();
        queue.commands.is_empty() && !queue.busy
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.lifeline.abandon();
    }
}

impl LaneEnd {
    pub fn life(&self) -> Life {
        self.lifeline.life()
    }

    /// Whether a request leaves, or has left.
    pub fn sends(&self) -> bool {
        self.lifeline.sends()
    }

    /// The next command. What was queued before the session went is still carried out.
    pub fn take(&self) -> Option<Command> {
        if matches!(self.life(), Life::Dead(_)) {
            return None;
        }
        let mut queue = self.queue.borrow_mut();
        let command = queue.commands.pop_front();
        queue.busy |= command.is_some();
        command
    }

    pub fn rest(&self) {
        self.queue.borrow_mut().busy = false;
    }

    pub fn report(&self, report: Report) {
        self.reports.push(report);
    }
}
